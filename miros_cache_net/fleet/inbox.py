"""From the link's thread to the node's: messages pass the gate here and wait, bounded, until they are taken."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery
from miros_cache_net.errors import UnknownKey, WireError
from miros_cache_net.fleet.digest import Digest
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message
from miros_cache_net.wire.gate import Gate


class Received(NamedTuple):
    """A trusted message and the queue in which its sender wants the answer, "" if none."""

    message: Message
    reply_to: str


class Inbox:
    """Opens deliveries and keeps them for the node; thread-safe.

    A host's newer document or digest takes the place of its older one, because it holds all of it.  Beyond
    the bounds messages are dropped and counted: the next digests repair that.  Of one's own messages only a
    request is kept that came back: whoever asked has to know.  `wake` is called, on the link's thread, when the
    first message after a `take_all` has come; `key_refused`, with each message of a key that this host does not hold.
    """

    def __init__(
        self,
        gate: Gate,
        wake: Callable[[], None],
        key_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._gate = gate
        self._wake = wake
        self._key_refused = key_refused
        self._guard = threading.Lock()
        self._waiting: dict[object, Received] = {}
        self._bytes: dict[object, int] = {}
        self.counters: Counter[str] = Counter()

    def put(self, delivery: Delivery) -> None:
        """One message off the link; never raises for what is in it."""
        try:
            message = self._gate.open(delivery.body, routing_key=delivery.routing_key, key_id=delivery.key_id)
        except UnknownKey:
            self._key_refused()
            return
        except WireError:
            return  # the gate has counted and logged it
        own = self._gate.is_own(message)
        if own and message.kind != kinds.CACHE_FILE_READ:
            return
        key = (message.origin.node, message.kind) if _holds_all_of_earlier(message) else message.message_id
        with self._guard:
            self.counters["own_request" if own else message.kind] += 1
            first = not self._waiting
            if _is_older(message, self._waiting.get(key)):
                self.counters["overtaken"] += 1
                return
            self._bytes.pop(key, None)
            if not self._has_room_for(len(delivery.body)):
                self.counters["dropped"] += 1
                return
            self._waiting[key] = Received(message, delivery.reply_to)
            self._bytes[key] = len(delivery.body)
        if first:
            self._wake()

    def take_all(self) -> list[Received]:
        """Everything that waits."""
        with self._guard:
            taken = list(self._waiting.values())
            self._waiting.clear()
            self._bytes.clear()
        return taken

    def _has_room_for(self, size: int) -> bool:
        return (
            len(self._waiting) < limits.INBOX_REQUESTS and sum(self._bytes.values()) + size <= limits.NODE_QUEUE_BYTES
        )


def _holds_all_of_earlier(message: Message) -> bool:
    """A digest that asks or answers somebody is more than a state: a later one does not say that again."""
    digest = Digest.from_body(message.body) if message.kind == kinds.DIGEST else None
    return message.kind in kinds.STATES and not (digest and (digest.joining or digest.answers))


def _is_older(message: Message, waiting: Received | None) -> bool:
    """A replay, or one that was overtaken on the way, must not take the place of what came after it."""
    if waiting is None:
        return False
    theirs, ours = message.origin, waiting.message.origin
    if theirs.boot == ours.boot:
        return theirs.sequence < ours.sequence
    return message.sent_ms < waiting.message.sent_ms
