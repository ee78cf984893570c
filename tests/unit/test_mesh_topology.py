"""What is declared at a broker where old programs declare the same: anything else would close their channels."""

from __future__ import annotations

from miros_cache_net.amqp.topology import Binding, Exchange
from miros_cache_net.mesh.topology import MESH_EXCHANGE, listening_topology, sending_topology

DECLARED_BY_OLD_PROGRAMS = Exchange("miros.mesh.exchange", "topic", durable=False)


def test_the_exchange_is_declared_as_old_programs_do() -> None:
    for topology in (listening_topology(MESH_EXCHANGE, "heya.*"), sending_topology(MESH_EXCHANGE)):
        assert topology.exchanges == (DECLARED_BY_OLD_PROGRAMS,)
        assert not topology.canary_exchange and not topology.lease and topology.requests is None


def test_listeners_queue_is_bound_and_bounded() -> None:
    queue = listening_topology(MESH_EXCHANGE, "heya.*").own_queue
    assert queue is not None and queue.bindings == (Binding(MESH_EXCHANGE, "heya.*"),)
    assert queue.arguments["x-message-ttl"] == 50_000
    assert {"x-max-length", "x-max-length-bytes"} <= set(queue.arguments)
    assert sending_topology(MESH_EXCHANGE).own_queue is None
