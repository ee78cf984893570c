"""What tests of charts share: charts that are stopped afterwards, and a watch for threads left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.charts.recorder import Recorder
from tests.threads import NewThreads

#: How long an ended chart's thread may take to vanish.
GRACE_S = 5.0


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread of its own running."""
    threads = NewThreads()
    yield
    deadline = time.monotonic() + GRACE_S
    while left := threads.names():
        if time.monotonic() > deadline:
            pytest.fail(f"threads left behind: {left}")
        time.sleep(0.005)


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
