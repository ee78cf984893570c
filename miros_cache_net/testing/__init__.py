"""What tests of programs with a cache need: a private RabbitMQ, hosts on a network, a clock to move.

With pytest: ``pytest_plugins = ["miros_cache_net.testing"]`` in ``conftest.py`` brings the fixtures
`rabbit_server`, `rabbit_url`, `manual_clock` and `network_namespaces`.  Without pytest the classes work alone.
"""

from __future__ import annotations

import sys

from miros_cache_net.testing.manual_clock import ManualClock
from miros_cache_net.testing.network import Network, NetworkHost, NetworkUnavailable
from miros_cache_net.testing.rabbit import RabbitFailed, RabbitServer
from miros_cache_net.testing.rabbit_cluster import RabbitCluster
from miros_cache_net.testing.rabbit_files import RabbitNotInstalled, free_port
from miros_cache_net.testing.waiting import wait_until

__all__ = [
    "ManualClock",
    "Network",
    "NetworkHost",
    "NetworkUnavailable",
    "RabbitCluster",
    "RabbitFailed",
    "RabbitNotInstalled",
    "RabbitServer",
    "free_port",
    "wait_until",
]

# Fixtures exist where pytest runs; `import miros_cache_net.testing` in a program must not load pytest.
if "pytest" in sys.modules:
    from miros_cache_net.testing.fixtures import manual_clock, network_namespaces, rabbit_server, rabbit_url

    __all__ += ["manual_clock", "network_namespaces", "rabbit_server", "rabbit_url"]
