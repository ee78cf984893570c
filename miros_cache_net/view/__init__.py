"""What do a fleet and each of its charts look like?

In: charts, and the answers of the fleet.  Out: pictures, and a page for a browser.  The room is read-only: it asks and
draws, and changes nothing.
"""
