"""`on_change` and `wait_connected`: for programs that are no statechart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import Cache, CacheFileChart, CacheReadPayload, ChartError
from miros_cache_net.events import CACHE
from miros_cache_net.testing import Fleet, wait_until
from tests.charts.file_charts import Bench


@pytest.fixture
def bench(tmp_path: Path, stopping: Callable[[Any], Any]) -> Bench:
    return Bench(tmp_path, stopping)


def test_a_function_is_told_of_each_change_of_its_file(bench: Bench) -> None:
    Cache(bench.path).write({"n": 0})
    chart, told = bench.chart(watch=True), list[CacheReadPayload]()
    bench.chart(bench.directory / "other.json", watch=True)
    end = chart.on_change(told.append)
    bench.read()
    Cache(bench.directory / "other.json").write({"n": "other"})
    for number in (1, 2):
        Cache(bench.path).write({"n": number})
        wait_until(lambda number=number: told and told[-1].dict == {"n": number})  # type: ignore[misc]
    assert [payload.dict["n"] for payload in told] == [1, 2]
    end()
    Cache(bench.path).write({"n": 3})
    bench.heard.wait_for(lambda events: any(e.signal_name == CACHE and e.payload.dict == {"n": 3} for e in events))
    assert len(told) == 2


def test_a_function_that_raises_is_reported_and_told_again(bench: Bench) -> None:
    chart, told = bench.chart(watch=True), list[CacheReadPayload]()

    def tell(payload: CacheReadPayload) -> None:
        told.append(payload)
        raise ValueError("not mine")

    chart.on_change(tell)
    for number in (1, 2):
        Cache(bench.path).write({"n": number})
        wait_until(lambda number=number: told and told[-1].dict == {"n": number})  # type: ignore[misc]
    assert "not mine" in bench.errors()[0].message


def test_a_chart_that_hears_of_no_changes_says_so(bench: Bench) -> None:
    with pytest.raises(ChartError, match="watch=True"):
        bench.chart().on_change(print)
    stopped = bench.chart(watch=True)
    stopped.stop()
    with pytest.raises(ChartError, match="was stopped"):
        stopped.on_change(print)


def test_every_chart_stops_at_the_end_of_a_with(bench: Bench) -> None:
    with CacheFileChart(bench.path, watch=True) as chart:
        assert chart.running
        chart.on_change(print)
    assert not chart.running


def test_a_node_tells_of_what_other_hosts_write(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    told: list[CacheReadPayload] = []
    beta.node.on_change(told.append)
    alpha.write({"n": 1})
    wait_until(lambda: [payload.dict for payload in told] == [{"n": 1}])


def test_waiting_ends_when_the_host_is_in_step(hosts: Fleet) -> None:
    hosts.add("alpha")
    beta = hosts.add("beta", wait=False)
    assert beta.node.wait_connected(30)
    assert beta.node.connected


def test_waiting_ends_with_its_time_and_node(hosts: Fleet) -> None:
    hosts.add("alpha")
    beta = hosts.add("beta", wait=False)
    beta.node.wait_connected(30)
    assert beta.node.wait_connected(0)
    answers: list[bool] = []
    beta.node.stop()
    waiting = threading.Thread(target=lambda: answers.append(beta.node.wait_connected()))
    waiting.start()
    waiting.join(30)
    assert answers == [False]
