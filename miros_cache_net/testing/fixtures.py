"""The pytest plugin: its fixtures are there wherever the package is installed, and load when a test uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Each fixture imports what it needs: pytest loads this file for every project on the machine.
if TYPE_CHECKING:
    from typing import Literal

    from miros_cache_net.testing.fleet import Fleet
    from miros_cache_net.testing.manual_clock import ManualClock
    from miros_cache_net.testing.network import NetworkHost
    from miros_cache_net.testing.rabbit import RabbitServer

    AnyKind = Literal["thread", "process", "namespace"]


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Call it with a number: a fleet of that many hosts, all in step, ended with the test.

    ``fleet(3)`` has them as threads of this process, in memory; ``real=True`` on the session's private RabbitMQ.
    ``kind="process"`` makes processes of them and ``kind="namespace"`` processes with a network each, both real.
    What else is given is a setting of every host.
    """
    from miros_cache_net.testing.fleet import Fleet

    with ExitStack() as made:

        def make(count: int = 0, *, real: bool = False, kind: AnyKind = "thread", **settings: Any) -> Fleet:
            directory = tmp_path / f"fleet-{len(list(tmp_path.glob('fleet-*')))}"
            directory.mkdir()
            if kind == "namespace":
                return made.enter_context(Fleet.in_namespaces(count, directory, **settings))
            real = real or kind == "process"
            broker = request.getfixturevalue("rabbit_server").start() if real else None
            hosts = made.enter_context(Fleet(directory, broker, kind=kind, **settings))
            for _ in range(count):
                hosts.add()
            return hosts

        yield make


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """One private RabbitMQ for the whole session; a test that stops or pauses it must start it again."""
    from miros_cache_net.testing.rabbit import RabbitServer

    with RabbitServer() as server:
        yield server


@pytest.fixture
def rabbit_url(rabbit_server: RabbitServer) -> str:
    """URL of the session's private RabbitMQ, started again should an earlier test have ended it."""
    return rabbit_server.start().url


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that only the test moves."""
    from miros_cache_net.testing.manual_clock import ManualClock

    return ManualClock()


@pytest.fixture
def network_namespaces() -> Iterator[Callable[[int], tuple[NetworkHost, ...]]]:
    """Call it with a number: that many hosts on a network of their own, taken down after the test.

    Without root or the program `ip` the test fails; it is never skipped.
    """
    from miros_cache_net.testing.network import Network

    with ExitStack() as networks:
        yield lambda count: networks.enter_context(Network(count))
