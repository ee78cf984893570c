"""A plain program, no statechart, that shares the same cache.

Run it after statechart_cache.py, in the same directory:

    python plain_client.py
"""

from miros_cache_net import Cache

with Cache("first_cache.json") as cache:
    found = cache.read()
    if found.expired:
        print("nothing young enough in the cache: run statechart_cache.py first")
    else:
        print(f"{found.origin} discovered {found.dict['hosts']} {found.age_s:.1f} s ago")

        # One key of its own: other keys stay, and the document does not become younger.
        now = cache.update({"readers": found.dict.get("readers", 0) + 1})
        print(f"read by {now.dict['readers']} so far")
