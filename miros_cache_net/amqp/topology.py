"""What a link declares at the broker, as a plain value.

A link either only sends, or has its own queue (exclusive, named by the broker), bound to the topology's exchanges.  It
may also share a named queue with other links, for requests that one of them takes, and compete with them for a lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from miros_cache_net.amqp.link import Publication

Arguments = Mapping[str, str | int]

#: Prefix of the queue names that RabbitMQ generates.
OWN_QUEUE_PREFIX: Final = "amq.gen-"
_NAME_BYTES: Final = 255


@dataclass(frozen=True)
class Exchange:
    """An exchange without arguments; if it exists with another type or durability, the link gives up."""

    name: str
    type: str = "topic"
    durable: bool = True


class Binding(NamedTuple):
    """Routes an exchange's messages that match `key` to a queue."""

    exchange: str
    key: str


@dataclass(frozen=True)
class Queue:
    """name: "" for a link's own queue; `arguments`: RabbitMQ's own (``x-message-ttl``)."""

    name: str = ""
    arguments: Arguments = field(default_factory=dict)
    bindings: tuple[Binding, ...] = ()


@dataclass(frozen=True)
class Topology:
    """exchanges        declared; only these can be published to
    own_queue        exclusive, dies with the link; None: the link only sends, over one connection
    requests         durable, shared by name: each message reaches one of the links that serve it; None: no such queue
    lease            name of the exclusive queue whose owner holds the lease; "" if none is needed
    canary_exchange  the exchange through which a link sends itself a message now and then, to notice that the
                     exchange was deleted and recreated; "" if strangers bind all keys and would receive it
    late_acks        a request counts as taken only when the listener calls `Delivery.taken`; if the link goes down
                     before that, the broker delivers it again, perhaps to another link

    Raises ValueError for names that AMQP cannot carry.
    """

    exchanges: tuple[Exchange, ...]
    own_queue: Queue | None
    requests: Queue | None = None
    lease: str = ""
    canary_exchange: str = ""
    late_acks: bool = False

    def __post_init__(self) -> None:
        if self.own_queue is None and (self.requests or self.lease or self.canary_exchange):
            raise ValueError("a topology without a queue of its own declares only exchanges")
        queues = [queue for queue in (self.own_queue, self.requests) if queue is not None]
        names = [self.lease, *(exchange.name for exchange in self.exchanges), *(queue.name for queue in queues)]
        for name in [*names, *(key for queue in queues for _, key in queue.bindings)]:
            _check_length(name)
        known = {exchange.name for exchange in self.exchanges}
        used = {binding.exchange for queue in queues for binding in queue.bindings} | {self.canary_exchange}
        if unknown := used - known - {""}:
            raise ValueError(f"a topology binds exchanges that it does not declare: {sorted(unknown)}")


def destination(topology: Topology, publication: Publication) -> tuple[str, str]:
    """Exchange and routing key of `publication`.  Raises ValueError for what cannot be sent."""
    named: tuple[object, ...] = (publication.exchange, publication.queue, publication.requests)
    if sum(map(bool, named)) != 1:
        raise ValueError("a publication names exactly one of exchange, queue and requests")
    if publication.requests:
        if topology.requests is None:
            raise ValueError("this link has no queue for requests")
        return "", topology.requests.name
    if publication.exchange and publication.exchange not in {exchange.name for exchange in topology.exchanges}:
        raise ValueError("a publication may go only to an exchange that the link declares")
    _check_length(publication.queue or publication.routing_key)
    return publication.exchange, publication.queue or publication.routing_key


def comes_back(topology: Topology, exchange: str, key: str) -> bool:
    """Whether the canary's exchange routes a message with that key to the link's own queue."""
    if not topology.canary_exchange or exchange != topology.canary_exchange or topology.own_queue is None:
        return False
    types = {each.name: each.type for each in topology.exchanges}
    return any(
        binding.exchange == exchange and matches(types[exchange], binding.key, key)
        for binding in topology.own_queue.bindings
    )


def canary_key(token: str) -> str:
    """Routing key of a link's messages to itself."""
    return f"canary.{token}"


def is_server_named(queue: str) -> bool:
    """Whether `queue` can be a link's own queue; answers go nowhere else, whatever a message asks for."""
    return queue.startswith(OWN_QUEUE_PREFIX) and len(queue.encode("utf-8", "replace")) <= 255


def matches(exchange_type: str, binding: str, key: str) -> bool:
    """Whether an exchange of that type routes `key` to a queue bound with `binding`."""
    if exchange_type == "topic":
        return _match(binding.split("."), key.split("."))
    return exchange_type == "fanout" or binding == key


def _check_length(name: str) -> None:
    if len(name.encode("utf-8", "replace")) > _NAME_BYTES:
        raise ValueError(f"a name or routing key may have at most {_NAME_BYTES} bytes: {name[:40]}...")


def _match(binding: list[str], key: list[str]) -> bool:
    if not binding:
        return not key
    if binding[0] == "#":
        return any(_match(binding[1:], key[i:]) for i in range(len(key) + 1))
    return bool(key) and binding[0] in ("*", key[0]) and _match(binding[1:], key[1:])
