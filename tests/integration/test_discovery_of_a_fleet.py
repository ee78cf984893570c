"""A discovery once a fleet, for programs that ask through `Cache`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from miros_cache_net import Cache, CacheNode
from miros_cache_net.testing import Fleet


def test_program_of_a_new_node_reuses_the_result(fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """It asks at once, before its node has a link, while another host has the result."""
    hosts = fleet(1, real=True)
    hosts[0].write({"printers": ["10.0.0.21"]})
    path = tmp_path / "newcomer" / "cache.json"
    path.parent.mkdir()
    with CacheNode(path, hosts.settings("newcomer")), Cache(path) as cache:
        found = cache.get_or_discover(lambda: pytest.fail("it discovered for itself"))
    assert found.dict == {"printers": ["10.0.0.21"]}
