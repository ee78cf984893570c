"""Which host of a fleet speaks in the old mesh: the one to which RabbitMQ delivers from a queue that all consume.

The queue has a *single active consumer*: RabbitMQ delivers everything to one of the hosts, and to another one as
soon as that host's connection is gone, beginning with unacknowledged messages.  RabbitMQ does not say which host is
active, so hosts infer it from deliveries: an empty message in that queue, a *nudge*, makes the active host announce
itself to the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from miros_cache_net import limits
from miros_cache_net.amqp.link import Link, Publication
from miros_cache_net.amqp.topology import Arguments, Binding, Exchange, Queue, Topology
from miros_cache_net.fleet.place import Place, mesh_queue_name
from miros_cache_net.mesh.topology import MESH_EXCHANGE

NUDGE_TIMER: Final = "nudge"
#: How soon an unanswered nudge is repeated, and how many may stay unanswered before `trouble` says so.
_AGAIN_S: Final = 3.0
_UNANSWERED: Final = 3
#: How long a host that knows of something unsaid waits for the speaker: at least, and at most.
_PATIENCE_S: Final = (0.5, 1.5)

_QUEUE_ARGUMENTS: Final[Arguments] = {
    "x-queue-type": "classic",
    "x-single-active-consumer": True,
    "x-message-ttl": limits.MESH_ELECTION_TTL_MS,
    "x-expires": limits.REQUEST_QUEUE_EXPIRES_MS,
    "x-max-length": limits.MESH_QUEUE_MESSAGES,
    "x-max-length-bytes": limits.NODE_QUEUE_BYTES,
    "x-overflow": "drop-head",
}


def election_topology(place: Place, rx: str) -> Topology:
    """For a link that hears events whose routing key matches `rx`, as long as it is the active one.

    Its own queue is idle.
    """
    queue = Queue(mesh_queue_name(place), _QUEUE_ARGUMENTS, (Binding(MESH_EXCHANGE, rx),))
    return Topology((Exchange(MESH_EXCHANGE, durable=False),), Queue(), queue, late_acks=True)


class Election:
    """This host's knowledge about which host speaks.  Call all methods on one thread.

    after       calls `nudge` after some seconds; replaces an earlier call
    interval_s  mean time between two nudges in the whole fleet while all is quiet
    speaks      whether this host is the active one, as far as it knows

    Each host that becomes the active one begins a term, whose number is greater than those of all terms it knows.
    """

    def __init__(
        self, link: Link, queue: str, after: Callable[[float], None], *, interval_s: float, rng: random.Random
    ) -> None:
        self._link, self._queue, self._after = link, queue, after
        self._interval_s, self._rng = interval_s, rng
        self._up = self._serving = False
        self._unanswered = 0
        self._wanted = False
        self.speaks = False
        self._last_term = 0

    @property
    def term(self) -> int:
        """The number of this host's term; 0 while it is not the active one."""
        return self._last_term if self.speaks else 0

    @property
    def trouble(self) -> str:
        """Why no host of the fleet speaks; "" if one does, or that is not known yet."""
        if self._unanswered < _UNANSWERED:
            return ""
        return (
            f"no host of this fleet takes part in the mesh: queue {self._queue!r} at the broker is unavailable, or "
            "another program consumes it; delete the queue there, and it is created again"
        )

    def link_up(self) -> None:
        self._up = True
        self._begin()

    def link_down(self) -> None:
        """This host is no longer the active one; RabbitMQ chooses another, if there is one."""
        self._up = self.speaks = False

    def serve(self, serving: bool) -> None:
        """Stand for election, or stop doing so."""
        if serving != self._serving:
            self._serving = serving
            self._link.serve_requests(serving)
            if not serving:
                self.speaks = False
            self._begin()

    def chosen(self) -> None:
        """RabbitMQ has delivered something from the queue to this host."""
        if self._up and self._serving and not self.speaks:
            self.speaks = True
            self._last_term = min(self._last_term + 1, limits.MESH_TERMS)
        self._answered()

    def heard_speaker(self, term: int) -> bool:
        """Another host has said that it is the active one; False if this one's term is later."""
        if term <= 0 or term < self.term:
            return False
        self.speaks = False
        self._last_term = max(self._last_term, term)
        self._answered()
        return True

    def want_said(self) -> None:
        """Something must be said: if no host says it, nudge the active host, which may not know that it is active."""
        if not self._wanted:
            self._wanted = True
            self._after(self._rng.uniform(*_PATIENCE_S))

    def nudge(self) -> None:
        """Send a due nudge, so that the active host announces itself."""
        self._wanted = False
        if self._up and self._serving:
            self._link.publish(Publication(b"", requests=True, ttl_s=_AGAIN_S))
            self._unanswered += 1
            self._after(_AGAIN_S if self._unanswered <= _UNANSWERED else self._interval_s)

    def _begin(self) -> None:
        self._unanswered = 0
        if self._up and self._serving:
            self.nudge()

    def _answered(self) -> None:
        self._unanswered, self._wanted = 0, False
        self._after(self._interval_s * self._rng.uniform(0.5, 1.5))
