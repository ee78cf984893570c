"""Exchanges, bindings, queues and consumers of the in-memory broker: state without threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miros_cache_net import limits
from miros_cache_net.amqp import topology

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


@dataclass
class MemoryQueue:
    """`consumers` take turns; an exclusive queue has one."""

    name: str
    bindings: set[tuple[str, str]] = field(default_factory=set)
    consumers: deque[MemoryLink] = field(default_factory=deque)
    messages: deque[MemoryMessage] = field(default_factory=deque)


class MemoryQueues:
    """Not thread-safe: the broker holds its lock."""

    def __init__(self) -> None:
        self.exchanges: dict[str, str] = {}
        self.queues: dict[str, MemoryQueue] = {}

    def declare(self, name: str) -> MemoryQueue:
        return self.queues.setdefault(name, MemoryQueue(name))

    def route(self, message: MemoryMessage) -> None:
        """Into every queue that the exchange, or the default exchange, has for it; the oldest gives way."""
        for queue in list(self._bound(message)):
            queue.messages.append(message)
            while len(queue.messages) > limits.NODE_QUEUE_MESSAGES:
                queue.messages.popleft()

    def _bound(self, message: MemoryMessage) -> Iterator[MemoryQueue]:
        if not message.exchange:
            named = self.queues.get(message.routing_key)
            if named is not None:
                yield named
        elif message.exchange in self.exchanges:
            for queue in self.queues.values():
                if any(e == message.exchange and topology.matches(k, message.routing_key) for e, k in queue.bindings):
                    yield queue

    def take(self, now_s: float) -> Iterator[tuple[MemoryLink, MemoryQueue, MemoryMessage]]:
        """Everything that has a consumer, with the one whose turn it is; what has expired is dropped."""
        for queue in list(self.queues.values()):
            while queue.messages and queue.consumers:
                message = queue.messages.popleft()
                if message.expires_s is None or message.expires_s > now_s:
                    queue.consumers.rotate(-1)
                    yield queue.consumers[-1], queue, message

    def delete_exchange(self, name: str) -> None:
        self.exchanges.pop(name, None)
        for queue in self.queues.values():
            queue.bindings = {binding for binding in queue.bindings if binding[0] != name}

    def restart(self) -> None:
        """What a real broker's restart leaves: durable exchanges and queues, no messages, no exclusive queue."""
        self.queues = {
            name: MemoryQueue(name) for name in self.queues if not name.startswith(topology.OWN_QUEUE_PREFIX)
        }
