"""The interface of a message broker to a node; the real and the in-memory one share it.

A `Link` is one host's attachment to one broker.  It reconnects for ever, redeclares everything, and reports to its
`LinkListener`.  What it declares is given as a value (`topology`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from miros_cache_net.errors import BrokerError, MessageRefused


@dataclass(frozen=True)
class Delivery:
    """One message as it arrived.  All but `body` and `exchange` are hints that anybody on the broker can forge.

    `exchange` is the one that it came through, "" if it was sent straight to a queue.  `reply_to` is where the sender
    expects an answer, "" if nowhere.  `message_id` and `app_id` are the sender's ids for the message and itself, ""
    if absent.  `from_requests`: it came through the shared request queue, so no other link got it.
    `taken` acknowledges it, where the topology has `late_acks`; may be called from any thread.
    """

    body: bytes
    routing_key: str
    reply_to: str = ""
    key_id: str = ""
    from_requests: bool = False
    exchange: str = ""
    message_id: str = ""
    app_id: str = field(default="", compare=False)
    taken: Callable[[], None] = field(default=lambda: None, compare=False)


@dataclass(frozen=True)
class Publication:
    """One message to send.

    Set exactly one destination: `exchange` (with `routing_key`, to all queues bound to it), `queue` (one queue, through
    the default exchange) or `requests` (the shared request queue).
    `reply_here` names this link's own queue as reply-to.  `ttl_s`: the broker drops it unread after so many seconds.
    `mandatory`, which needs a `message_id`: it is refused as `Unroutable` where no queue is bound for it.
    `done` is called on the link's thread once the broker confirmed it (True) or it was lost (False); before that,
    `refused` is called if the broker rejects this very message, so that sending it again would fail too.
    """

    body: bytes
    exchange: str = ""
    routing_key: str = ""
    queue: str = ""
    requests: bool = False
    reply_here: bool = False
    key_id: str = ""
    message_id: str = ""
    mandatory: bool = False
    ttl_s: float | None = None
    done: Callable[[bool], None] | None = None
    refused: Callable[[MessageRefused], None] | None = None


@dataclass(frozen=True)
class LinkUp:
    """The link is up: bound and consuming.  Publications wait until they can be sent.

    own_queue        server-given name of this link's exclusive queue, "" if it only sends
    request_servers  consumers of the shared request queue when it was declared: 0 means that no host can answer a join;
                     None: there is no such queue, or it is unavailable
    broker           product, version and address of the broker, without password
    host             the numeric address that was dialled, "" if none was
    """

    own_queue: str
    request_servers: int | None
    broker: str
    host: str = ""


class LinkListener(Protocol):
    """Called on the link's own thread, one call at a time; must return at once and never raise."""

    def link_up(self, up: LinkUp) -> None:
        """After every (re)connection, before any delivery of it."""

    def link_down(self, error: BrokerError) -> None:
        """Called once each time the link is lost or cannot connect, and again when the cause changes.

        ``error.fatal`` says that the link has given up.
        """

    def delivered(self, delivery: Delivery) -> None:
        """One message; it counts as taken when this returns (at-least-once: acknowledged afterwards).

        Except for requests of a topology with `late_acks`: those count as taken when `Delivery.taken` is called.
        """


class Link(Protocol):
    """Thread-safe; no call blocks on the network."""

    def start(self, listener: LinkListener) -> None:
        """Begin to connect, on the link's own thread.  Once in a link's life.

        Raises `OSError` if the system denies a thread or descriptors; the link may then be started again.
        """

    def publish(self, publication: Publication) -> None:
        """Hand over a message.  While the link is down, or beyond `limits.PUBLISH_BACKLOG`, ``done(False)`` is called.

        The same goes for a message to the shared request queue while that is unavailable.
        """

    def serve_requests(self, serve: bool) -> None:
        """Start or stop consuming the shared request queue; holds across reconnections and while it is unavailable."""

    @property
    def silent_s(self) -> float | None:
        """Seconds since anything, own canaries included, came through the canary's exchange; None: the link is down.

        0.0 if the topology has no such exchange, or nothing can be lost.
        """

    @property
    def alarm(self) -> str:
        """Why the broker takes no messages now, in its own words (``low on disk``); "" as far as this link knows none.

        A link learns of an alarm when it publishes something.
        """

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        """Try to be the one holder of the topology's lease; `done` is called on the link's thread, once.

        False: another link has it, or the link is down.  True also if the broker grants nobody a lease, or does not
        answer: several discoveries are better than none.  The lease lasts until `release_lease`, `stop` or the loss of
        the session (``link_down``).  A lease is not a fence: a former holder may not know yet that it has lost it.
        """

    def release_lease(self) -> None:
        """Give the lease up; a no-op if it is not held."""

    def stop(self) -> None:
        """End thread and connections; returns when they are gone (bounded by 5 s). Idempotent."""
