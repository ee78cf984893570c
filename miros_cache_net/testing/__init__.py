"""What do tests of a user's own program need?  A fleet to run in, brokers, hosts on a network, a clock to move.

With the package installed, pytest has the fixtures `fleet`, `compose_fleet`, `rabbit_server`, `rabbit_url`,
`manual_clock` and `network_namespaces`.  The classes also work without pytest.  Each is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from miros_cache_net.amqp.memory import MemoryBroker
    from miros_cache_net.amqp.memory_link import MemoryLink
    from miros_cache_net.testing.cable import CannotCut
    from miros_cache_net.testing.compose_fleet import ComposeFailed, ComposeFleet
    from miros_cache_net.testing.fleet import Fleet
    from miros_cache_net.testing.host import Host, NotRunning, NotThisKind
    from miros_cache_net.testing.manual_clock import ManualClock
    from miros_cache_net.testing.network import Network, NetworkHost, NetworkUnavailable
    from miros_cache_net.testing.node_process import NodeProcess, NodeProcessFailed
    from miros_cache_net.testing.rabbit import RabbitFailed, RabbitServer
    from miros_cache_net.testing.rabbit_cluster import RabbitCluster
    from miros_cache_net.testing.rabbit_files import RabbitNotInstalled, free_port
    from miros_cache_net.testing.skewed_clock import SkewedClock
    from miros_cache_net.testing.small_disk import DiskUnavailable
    from miros_cache_net.testing.tcp_forwarder import TcpForwarder
    from miros_cache_net.testing.waiting import wait_until

_HOMES: Final = {
    "CannotCut": "testing.cable",
    "ComposeFailed": "testing.compose_fleet",
    "ComposeFleet": "testing.compose_fleet",
    "DiskUnavailable": "testing.small_disk",
    "Fleet": "testing.fleet",
    "Host": "testing.host",
    "ManualClock": "testing.manual_clock",
    "MemoryBroker": "amqp.memory",
    "MemoryLink": "amqp.memory_link",
    "Network": "testing.network",
    "NetworkHost": "testing.network",
    "NetworkUnavailable": "testing.network",
    "NodeProcess": "testing.node_process",
    "NodeProcessFailed": "testing.node_process",
    "NotRunning": "testing.host",
    "NotThisKind": "testing.host",
    "RabbitCluster": "testing.rabbit_cluster",
    "RabbitFailed": "testing.rabbit",
    "RabbitNotInstalled": "testing.rabbit_files",
    "RabbitServer": "testing.rabbit",
    "SkewedClock": "testing.skewed_clock",
    "TcpForwarder": "testing.tcp_forwarder",
    "free_port": "testing.rabbit_files",
    "wait_until": "testing.waiting",
}

__all__ = [
    "CannotCut",
    "ComposeFailed",
    "ComposeFleet",
    "DiskUnavailable",
    "Fleet",
    "Host",
    "ManualClock",
    "MemoryBroker",
    "MemoryLink",
    "Network",
    "NetworkHost",
    "NetworkUnavailable",
    "NodeProcess",
    "NodeProcessFailed",
    "NotRunning",
    "NotThisKind",
    "RabbitCluster",
    "RabbitFailed",
    "RabbitNotInstalled",
    "RabbitServer",
    "SkewedClock",
    "TcpForwarder",
    "free_port",
    "wait_until",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"miros_cache_net.{_HOMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value
