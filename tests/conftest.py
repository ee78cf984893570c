"""What tests of every folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import Fleet

# known by its entry point where the package was installed since it has one
pytest_plugins = ["miros_cache_net.testing.fixtures"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's cache file is, once it is there."""
    return tmp_path / "cache.json"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet in memory without a host yet; its digests are as rare as a user's."""
    with Fleet(tmp_path, digest_interval_s=30.0) as made:
        yield made
