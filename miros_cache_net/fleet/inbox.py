"""Hands messages from the link's thread to the node's: opened by the gate, then kept in a bounded buffer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery
from miros_cache_net.errors import UnknownKey, WireError, WrongVersion
from miros_cache_net.fleet.digest import Digest
from miros_cache_net.observe.registry import Labelled
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message
from miros_cache_net.wire.gate import Gate


class Received(NamedTuple):
    """A trusted message, and the queue where its sender expects the answer ("" if none)."""

    message: Message
    reply_to: str


class Inbox:
    """Opens deliveries and keeps them for the node; thread-safe.

    A host's newer document or digest replaces its older one, because it contains all of it.  Beyond the bounds,
    messages are dropped and counted; the next digests repair that.  Own messages are dropped, except a request that
    came back: its asker has to know.  `wake` is called on the link's thread for the first message after a `take_all`;
    `not_understood` is called there with the error for each message in an unknown key or format.  `received`
    counts messages by kind.
    """

    def __init__(
        self,
        gate: Gate,
        wake: Callable[[], None],
        not_understood: Callable[[WireError], None],
        received: Labelled,
    ) -> None:
        self._gate = gate
        self._received = received
        self._wake = wake
        self._not_understood = not_understood
        self._guard = threading.Lock()
        self._waiting: dict[object, Received] = {}
        self._bytes: dict[object, int] = {}

    def put(self, delivery: Delivery) -> None:
        """Take one message off the link; never raises, whatever the message holds."""
        try:
            message = self._gate.open(delivery.body, routing_key=delivery.routing_key, key_id=delivery.key_id)
        except (UnknownKey, WrongVersion) as error:
            self._not_understood(error)
            return
        except WireError:
            return  # the gate has counted and logged it
        own = self._gate.is_own(message)
        if own and message.kind != kinds.CACHE_FILE_READ:
            return
        key = (message.origin.node, message.kind) if _holds_all_of_earlier(message) else message.message_id
        with self._guard:
            self._received.add("own_request" if own else message.kind)
            first = not self._waiting
            if _is_older(message, self._waiting.get(key)):
                self._received.add("overtaken")
                return
            self._bytes.pop(key, None)
            if not self._has_room_for(len(delivery.body)):
                self._received.add("dropped")
                return
            self._waiting[key] = Received(message, delivery.reply_to)
            self._bytes[key] = len(delivery.body)
        if first:
            self._wake()

    def take_all(self) -> list[Received]:
        """Remove and return all waiting messages."""
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
    """A digest that asks or answers is more than state: a later one does not repeat that part."""
    digest = Digest.from_body(message.body) if message.kind == kinds.DIGEST else None
    return message.kind in kinds.STATES and not (digest and (digest.joining or digest.answers))


def _is_older(message: Message, waiting: Received | None) -> bool:
    """A replayed or reordered message must not replace a newer one."""
    if waiting is None:
        return False
    theirs, ours = message.origin, waiting.message.origin
    if theirs.boot == ours.boot:
        return theirs.sequence < ours.sequence
    return message.sent_ms < waiting.message.sent_ms
