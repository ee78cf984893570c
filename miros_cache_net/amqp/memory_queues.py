"""Exchanges, bindings, queues and consumers of the in-memory broker: state without threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from miros_cache_net.amqp.topology import OWN_QUEUE_PREFIX, Arguments, Binding, Exchange, Queue, matches

if TYPE_CHECKING:
    from miros_cache_net.amqp.memory_link import MemoryLink


@dataclass(frozen=True)
class MemoryMessage:
    """One message as the broker saw it.  `expires_s` is on the broker's clock, None for never."""

    exchange: str
    routing_key: str
    body: bytes
    sender: str
    reply_to: str = ""
    key_id: str = ""
    expires_s: float | None = None
    message_id: str = ""


@dataclass
class MemoryQueue:
    """`consumers` take turns, unless the arguments say that one at a time is active; an exclusive queue has one."""

    name: str
    arguments: Arguments
    bindings: set[Binding]
    consumers: deque[MemoryLink] = field(default_factory=deque)
    messages: deque[MemoryMessage] = field(default_factory=deque)


class MemoryQueues:
    """Not thread-safe: the broker holds its lock."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, MemoryQueue] = {}

    def declare(self, wanted: Queue, name: str = "") -> MemoryQueue:
        """`name`: for a queue that the broker names itself."""
        name = name or wanted.name
        return self.queues.setdefault(name, MemoryQueue(name, wanted.arguments, set(wanted.bindings)))

    def route(self, message: MemoryMessage, now_s: float) -> bool:
        """Put `message` into every matching queue; a full queue drops its oldest."""
        bound = list(self._bound(message))
        for queue in bound:
            queue.messages.append(_expiring(message, queue, now_s))
            while len(queue.messages) > int(queue.arguments.get("x-max-length", len(queue.messages))):
                queue.messages.popleft()
        return bool(bound)

    def _bound(self, message: MemoryMessage) -> Iterator[MemoryQueue]:
        if not message.exchange:
            named = self.queues.get(message.routing_key)
            if named is not None:
                yield named
        elif message.exchange in self.exchanges:
            for queue in self.queues.values():
                kind = self.exchanges[message.exchange].type
                if any(e == message.exchange and matches(kind, k, message.routing_key) for e, k in queue.bindings):
                    yield queue

    def take(self, now_s: float) -> Iterator[tuple[MemoryLink, MemoryQueue, MemoryMessage]]:
        """Take all messages that have a consumer, each with the consumer whose turn it is; drop expired ones."""
        for queue in list(self.queues.values()):
            while queue.messages and queue.consumers:
                message = queue.messages.popleft()
                if message.expires_s is None or message.expires_s > now_s:
                    if queue.arguments.get("x-single-active-consumer"):
                        yield queue.consumers[0], queue, message
                        continue
                    queue.consumers.rotate(-1)
                    yield queue.consumers[-1], queue, message

    def delete_exchange(self, name: str) -> None:
        self.exchanges.pop(name, None)
        for queue in self.queues.values():
            queue.bindings = {binding for binding in queue.bindings if binding[0] != name}

    def restart(self) -> None:
        """Keep what survives a broker restart: durable exchanges and queues, no messages or exclusive queues."""
        for exchange in [exchange for exchange in self.exchanges.values() if not exchange.durable]:
            self.delete_exchange(exchange.name)
        self.queues = {
            name: MemoryQueue(name, queue.arguments, queue.bindings)
            for name, queue in self.queues.items()
            if not name.startswith(OWN_QUEUE_PREFIX)
        }


def _expiring(message: MemoryMessage, queue: MemoryQueue, now_s: float) -> MemoryMessage:
    """`message` with the queue's TTL, if that is shorter."""
    if "x-message-ttl" not in queue.arguments:
        return message
    expires_s = now_s + int(queue.arguments["x-message-ttl"]) / 1000
    return replace(message, expires_s=expires_s if message.expires_s is None else min(message.expires_s, expires_s))
