"""pytest fixtures: ``pytest_plugins = ["miros_cache_net.testing"]`` in a conftest.py makes them known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from miros_cache_net.testing.manual_clock import ManualClock
from miros_cache_net.testing.network import Network, NetworkHost
from miros_cache_net.testing.rabbit import RabbitServer


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """One private RabbitMQ for the whole session; a test that stops or pauses it must start it again."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def rabbit_url(rabbit_server: RabbitServer) -> str:
    """URL of the session's private RabbitMQ, started again should an earlier test have ended it."""
    return rabbit_server.start().url


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def network_namespaces() -> Iterator[Callable[[int], tuple[NetworkHost, ...]]]:
    """Call it with a number: that many hosts on a network of their own, taken down after the test.

    Without root or the program `ip` the test fails; it is never skipped.
    """
    with ExitStack() as networks:
        yield lambda count: networks.enter_context(Network(count))
