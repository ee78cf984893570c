"""The declarations of `miros-rabbitmq` 0.2.0 at a broker, as values.

Three topic exchanges, not durable and without arguments: any other declaration would close every old program's
channel.  A program's own queue is exclusive and named by the broker, so its bounds affect no other program.
"""

from __future__ import annotations

from typing import Final

from miros_cache_net import limits
from miros_cache_net.amqp.topology import Arguments, Binding, Exchange, Queue, Topology

MESH_EXCHANGE: Final = "miros.mesh.exchange"
SPY_EXCHANGE: Final = "miros.snoop.spy.exchange"
TRACE_EXCHANGE: Final = "miros.snoop.trace.exchange"
#: The routing keys with which spy lines and trace lines are sent and bound.
SPY_ROUTING_KEY: Final = "snoop.spy"
TRACE_ROUTING_KEY: Final = "snoop.trace"

#: The message TTL is the old programs' own; the lengths bound the memory that a queue takes from the broker.
_QUEUE_ARGUMENTS: Final[Arguments] = {
    "x-message-ttl": 50_000,
    "x-max-length": limits.MESH_QUEUE_MESSAGES,
    "x-max-length-bytes": limits.NODE_QUEUE_BYTES,
    "x-overflow": "drop-head",
}


def listening_topology(exchange: str, routing_key: str) -> Topology:
    """For a link that sends to `exchange`, and receives messages there whose routing key matches `routing_key`.

    Without a canary, because old programs bind all keys and would take it for a message.
    """
    own = Queue("", _QUEUE_ARGUMENTS, (Binding(exchange, routing_key),))
    return Topology((Exchange(exchange, durable=False),), own)


def sending_topology(exchange: str) -> Topology:
    """For a link that only sends to `exchange`."""
    return Topology((Exchange(exchange, durable=False),), None)
