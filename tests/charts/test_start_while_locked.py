"""A file chart that starts while another process is inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from miros_cache_net import Cache, CacheFileChart
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.sidecar import sidecar_path
from miros_cache_net.testing import wait_until


def test_chart_that_waited_for_lock_knows_its_name(tmp_path: Path, stopping: Callable[[Any], Any]) -> None:
    path = str(tmp_path / "c.json")
    with Cache(path) as cache:
        origin = cache.write({"a": 1}).origin
    lock = KernelLock(sidecar_path(path))
    assert lock.try_lock()
    chart = stopping(CacheFileChart(path))
    lock.close()
    wait_until(lambda: chart.node == origin)
