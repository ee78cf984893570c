"""The pytest plugin: its fixtures exist wherever the package is installed, and load when a test uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Each fixture imports what it needs: pytest loads this file for every project on the machine.
if TYPE_CHECKING:
    from typing import Literal

    from miros_cache_net.testing.compose_fleet import ComposeFleet
    from miros_cache_net.testing.fleet import Fleet
    from miros_cache_net.testing.manual_clock import ManualClock
    from miros_cache_net.testing.network import NetworkHost
    from miros_cache_net.testing.rabbit import RabbitServer

    AnyKind = Literal["thread", "process", "namespace"]


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """A function that makes a fleet of the given number of hosts, all in step; it ends with the test.

    ``fleet(3)`` runs them as threads of this process, in memory; ``real=True`` uses the session's private RabbitMQ.
    ``kind="process"`` makes them processes and ``kind="namespace"`` processes with a network each, both on RabbitMQ.
    Other keywords are settings of every host.
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


@pytest.fixture
def compose_fleet(tmp_path: Path) -> Iterator[Callable[..., ComposeFleet]]:
    """A function that makes a fleet of the given number of hosts in containers, all in step; it ends with the test.

    ``compose_fleet(3)`` runs nodes, ``compose_fleet(3, program=Path("my.py"))`` a program of yours.  Other keywords are
    settings of every host.
    """
    from miros_cache_net.testing.compose_fleet import ComposeFleet

    with ExitStack() as made:

        def make(count: int, program: Path | None = None, **settings: Any) -> ComposeFleet:
            directory = tmp_path / f"compose-{len(list(tmp_path.glob('compose-*')))}"
            directory.mkdir()
            hosts = ComposeFleet([f"host-{n}" for n in range(count)], directory, program, **settings)
            made.callback(hosts.close)
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
    """URL of the session's private RabbitMQ, which is started again if an earlier test ended it."""
    return rabbit_server.start().url


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that only the test moves."""
    from miros_cache_net.testing.manual_clock import ManualClock

    return ManualClock()


@pytest.fixture
def network_namespaces() -> Iterator[Callable[[int], tuple[NetworkHost, ...]]]:
    """A function that makes the given number of hosts on a network of their own, which is removed after the test.

    Without root or the program `ip` the test fails; it is never skipped.
    """
    from miros_cache_net.testing.network import Network

    with ExitStack() as networks:
        yield lambda count: networks.enter_context(Network(count))
