"""What tests of charts share: charts that are stopped afterwards, and a watch for threads left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from miros.activeobject import InstrumentionWriter

from miros_cache_net.statechart.timers import THREAD_NAME
from tests.charts.recorder import Recorder

#: How long an ended chart's thread may take to vanish.
GRACE_S = 5.0
#: What lives as long as the process.
_SHARED = ("fifo active fabric", "lifo active fabric", THREAD_NAME)


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread of its own running."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE_S
    while left := _own_threads(before):
        if time.monotonic() > deadline:
            pytest.fail(f"threads left behind: {[thread.name for thread in left]}")
        time.sleep(0.005)


def _own_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    shared = InstrumentionWriter()._thread
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread is not shared and thread.name not in _SHARED and thread.is_alive()
    ]


@pytest.fixture
def stopping() -> Iterator[Callable[[Any], Any]]:
    """`chart = stopping(Chart(...))`: stopped when the test is over."""
    charts: list[Any] = []

    def keep(chart: Any) -> Any:
        charts.append(chart)
        return chart

    yield keep
    for chart in reversed(charts):
        chart.stop()


@pytest.fixture
def recorder(stopping: Callable[[Any], Any]) -> Callable[..., Recorder]:
    """`recorder("CACHE", "CACHE_ERROR")`: a running `Recorder`, stopped when the test is over."""

    def build(*signal_names: str, **options: Any) -> Recorder:
        chart: Recorder = stopping(Recorder(*signal_names, **options))
        return chart

    return build
