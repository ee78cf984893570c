"""What does a fleet, and each of its charts, look like?

In: charts, and what the fleet answers.  Out: pictures, and a page for a browser.  It must not change anything: it asks
and draws.
"""
