"""How the hosts of a fleet keep one document in step: plain objects, no threads, no broker.  Layer 3.

`Replica` decides what to say and when to merge; `Trickle` when to repeat oneself; `Inbox` hands over what
arrives on the link's thread; `FleetClient` asks the fleet without being a part of it.
"""
