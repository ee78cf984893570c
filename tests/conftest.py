"""What tests of every folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import Fleet, RabbitServer
from tests.rabbit_log import warned_of

# known by its entry point where the package was installed since it has one
pytest_plugins = ["miros_cache_net.testing.fixtures", "tests.kinds_of_host", "tests.side_by_side"]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Tests that run side by side have the same names in every process, whatever was sealed for them."""
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) and val.startswith(b"gAAAA") else None


@pytest.fixture(scope="session")
def rabbit_server(rabbit_server: RabbitServer) -> Iterator[RabbitServer]:
    """Whatever the tests did to it, it has warned of no deprecated feature."""
    yield rabbit_server
    assert warned_of(rabbit_server.log.read_text()) == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's cache file is, once it is there."""
    return tmp_path / "cache.json"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet in memory without a host yet; its digests are as rare as a user's."""
    with Fleet(tmp_path, digest_interval_s=30.0) as made:
        yield made
