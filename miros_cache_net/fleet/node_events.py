"""The private events of a `CacheNode`, timers included: the payload of each, what posts it, and when.

None leaves its node.  `Bridge.handle` handles those of the bridge; the node's states name the others.
"""

from __future__ import annotations

from typing import Final

# --- of the host, posted by `HostSide` ------------------------------------------------------------------

#: No payload: from now on this process is its host's bridge.
BRIDGE_LOCK_TAKEN: Final = "bridge_lock_taken"
#: A `Question`: a process of this host, possibly this one, asks the fleet.
FLEET_ASKED: Final = "fleet_asked"

#: A `Question`: `health` asks about this host.
HEALTH_ASKED: Final = "health_asked"

# --- of the link, posted by `Bridge` on the link's thread -----------------------------------------------

#: A `LinkUp`: the link is up.
LINK_UP: Final = "link_up"
#: A `BrokerError`: the link is lost, or cannot be made.
LINK_DOWN: Final = "link_down"
#: No payload: the inbox is no longer empty.
MESSAGES_WAITING: Final = "messages_waiting"
#: A `WireError`: a message arrived in an unknown key or format; see `Standing.takes_doubts`.
NOT_UNDERSTOOD: Final = "not_understood"
#: ``(number, confirmed)``: the broker has confirmed the publication with that number, or it was lost.
PUBLICATION_DONE: Final = "publication_done"
#: ``(kind, error)``: the broker refuses this message of that kind, not the link; ``publication_done`` follows.
PUBLICATION_REFUSED: Final = "publication_refused"
#: A `bool`: whether this host holds the fleet's lease.
LEASE_ANSWERED: Final = "lease_answered"

# --- of the host's own affairs --------------------------------------------------------------------------

#: No payload, posted by `FleetLease` on a lock thread: no process of this host holds the discovery lock any more.
DISCOVERY_OVER: Final = "discovery_over"
#: The name of a timer that is due: a key of `timers` in one of the bridge's objects.
TIMER_DUE: Final = "timer_due"
#: ``(document, node)``, posted on the file chart's thread: merging that node's document would exceed a cap.
MERGE_REFUSED: Final = "merge_refused"
#: ``(reply_to, message_id)``: the disk has been looked at, or takes too long: time to answer that status request.
STATUS_DUE: Final = "status_due"
#: No payload, posted by `Bridge`: this host takes part now.
JOINED: Final = "joined"
#: No payload, posted by the node: time to try again to become bridge or follower.
PLACE_DUE: Final = "place_due"
#: ``(name, payload)``, posted by the node's `Interpreter`; see `mesh.interpreter`.
MESH_DUE: Final = "mesh_due"
#: No payload, posted by the node: time to start watching the file.
WATCH_DUE: Final = "watch_due"
