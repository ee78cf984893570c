"""What a node wants of a message broker: the interface that the real and the in-memory one share.

A `Link` is one host's attachment to one broker.  It reconnects for ever, redeclares everything, and
tells its `LinkListener` what happens.  It knows queues and bytes; it knows nothing of documents, keys
or charts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from miros_cache_net.errors import BrokerError


@dataclass(frozen=True)
class Place:
    """Which exchange, and whose messages on it: a scope holds documents, a document has its own keys.

    `scope` and `document` are free text; they are percent-encoded where they become routing-key words
    or queue names (`miros_cache_net.amqp.topology`).
    """

    exchange: str
    scope: str
    document: str


@dataclass(frozen=True)
class Delivery:
    """One message as it arrived.  All but `body` are hints that anybody on the broker can forge.

    `reply_to` is the queue that the sender wants an answer in, "" if none.  `from_requests` tells that it
    came through the shared request queue (competing consumers), so that nobody else got it.
    """

    body: bytes
    routing_key: str
    reply_to: str = ""
    key_id: str = ""
    from_requests: bool = False


@dataclass(frozen=True)
class Publication:
    """One message to send.

    Exactly one of `kind` (to the place's exchange under ``cache.<scope>.<document>.<kind>``), `queue` (to
    one queue, by the default exchange) and `requests` (to the place's shared request queue) says where to.
    `reply_here` names this link's own queue as reply-to.  `ttl_s`: the broker drops it unread after that.
    `done` is called on the link's thread once the broker confirmed it (True) or it was lost (False).
    """

    body: bytes
    kind: str = ""
    queue: str = ""
    requests: bool = False
    reply_here: bool = False
    key_id: str = ""
    ttl_s: float | None = None
    done: Callable[[bool], None] | None = None


@dataclass(frozen=True)
class LinkUp:
    """The link stands: bound and consuming.  What is published waits until it can be sent.

    own_queue        server-given name of this link's exclusive queue
    request_servers  consumers that the shared request queue had: 0 means nobody can answer a join
                     None: the queue cannot be had now
    broker           product, version and address of the broker, without password
    """

    own_queue: str
    request_servers: int | None
    broker: str


class LinkListener(Protocol):
    """Called on the link's own thread, one call at a time; must return at once and never raise."""

    def link_up(self, up: LinkUp) -> None:
        """After every (re)connection, before any delivery of it."""

    def link_down(self, error: BrokerError) -> None:
        """Once each time the link is lost or cannot be made (then again after each changed cause).

        ``error.fatal`` says that the link has given up.
        """

    def delivered(self, delivery: Delivery) -> None:
        """One message; it counts as taken when this returns (at-least-once: acknowledged afterwards)."""


class Link(Protocol):
    """Thread-safe; no call blocks on the network."""

    def start(self, listener: LinkListener) -> None:
        """Begin to connect, on a thread of the link's own.  Once in a link's life."""

    def publish(self, publication: Publication) -> None:
        """Hand over a message.  Without a link, or beyond `limits.PUBLISH_BACKLOG`, ``done(False)`` is called.

        So it is with a message for the shared request queue while that cannot be had.
        """

    def serve_requests(self, serve: bool) -> None:
        """Consume the shared request queue, or stop to; holds across reconnections, and while it cannot be had."""

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        """Try to be the one holder of the place's lease; `done` is called on the link's thread, once.

        False: another link has it, or there is no session now.  True too where the broker grants nobody a lease, or
        does not answer: that several discover is better than that nobody does.  Held, it lasts until `release_lease`,
        `stop` or the loss of the session (``link_down``).  A lease is no fence: who lost it may not know yet.
        """

    def release_lease(self) -> None:
        """Give the lease up; nothing happens where it is not held."""

    def stop(self) -> None:
        """End thread and connections; returns when they are gone (bounded by 5 s). Idempotent."""
