"""After a fork: new charts work in the child, inherited ones say clearly that they cannot."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from miros.activeobject import ActiveFabric

from miros_cache_net.errors import ChartForked, Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.forks import PROCESS
from miros_cache_net.statechart.timers import TIMERS
from miros_cache_net.testing import wait_until
from tests.charts.recorder import TIMEOUT_S, Recorder


def in_child(function: Callable[[], Any]) -> None:
    """Run `function` in a forked child; fail as it fails, or if it takes too long."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = b"ok"
        try:
            function()
        except BaseException:
            told = traceback.format_exc().encode()
        os.write(writing, told)
        os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], 2 * TIMEOUT_S)
        assert ready, "the child hangs"
        told = os.read(reading, 65_536).decode()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    assert told == "ok", told


def _a_new_chart_works() -> None:
    first, second = Recorder("ITEM", name="first"), Recorder("ITEM", CACHE_ERROR, name="second")
    first.publish(event("ITEM", "first publication"))
    second.wait_for(1)
    first.post_later(event("ITEM", "later"), 0.01)
    first.wait_for(2)
    first.report(Reason.IO, "told")
    second.wait_for(2)
    first.stop()
    second.stop()
    assert [*first.payloads, second.payloads[0]] == ["first publication", "later", "first publication"]


def test_chart_built_in_the_child_works_at_once(recorder: Callable[..., Recorder]) -> None:
    parent = recorder("ITEM")
    parent.publish(event("ITEM"))
    parent.wait_for(1)
    parent.post_later(event("ITEM", "of the parent"), 0.2)

    in_child(_a_new_chart_works)

    assert parent.wait_for(2)[1].payload == "of the parent"


def test_grandchild_works_as_well_as_a_child(recorder: Callable[..., Recorder]) -> None:
    recorder("ITEM")

    def child() -> None:
        _a_new_chart_works()
        in_child(_a_new_chart_works)

    in_child(child)


def test_inherited_chart_refuses_work_and_stops_quietly(
    recorder: Callable[..., Recorder],
) -> None:
    chart = recorder("ITEM")
    identity = chart.post_fifo(event("ITEM"), period=600.0)

    def child() -> None:
        assert not chart.running
        for use in (
            lambda: chart.post_fifo(event("ITEM")),
            lambda: chart.post_lifo(event("ITEM")),
            lambda: chart.post_later(event("ITEM"), 0.0),
            lambda: chart.publish(event("ITEM")),
            lambda: chart.subscribe("ITEM"),
            lambda: chart.unsubscribe("ITEM"),
            lambda: chart.start_at("recording"),
        ):
            with pytest.raises(ChartForked) as refusal:
                use()
            assert "chart recorder was built before the fork" in str(refusal.value)
            assert "build a new one in the child" in str(refusal.value)
        chart.cancel_event(uuid=identity)
        chart.cancel_events("ITEM")
        chart.report(Reason.IO, "only logged")
        chart.stop()
        chart.stop()

    in_child(child)

    assert chart.running
    chart.post_fifo(event("ITEM"))
    chart.wait_for(1)


def test_unstarted_chart_of_the_parent_is_refused_too() -> None:
    chart = Chart("unstarted")
    chart.create(state="a")

    def child() -> None:
        chart.stop()
        with pytest.raises(ChartForked):
            chart.start_at("a")

    in_child(child)


@contextlib.contextmanager
def held_by_another_thread(*locks: Any) -> Iterator[None]:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            assert release.wait(3 * TIMEOUT_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(TIMEOUT_S)
    try:
        yield
    finally:
        release.set()
        thread.join()


def test_locks_held_at_the_fork_block_no_child(
    recorder: Callable[..., Recorder],
) -> None:
    chart = recorder("ITEM")
    shared = ActiveFabric()
    timer = chart.post_later(event("ITEM"), 600.0)

    def child() -> None:
        chart.stop()
        timer.cancel()
        _a_new_chart_works()
        assert len(TIMERS) == 0

    with held_by_another_thread(
        PROCESS.lock,
        TIMERS._changed,
        shared.fifo_fabric_queue.mutex,
        shared.lifo_fabric_queue.mutex,
        chart._life,
        chart._one_start,
    ):
        in_child(child)


def test_fork_in_handler_leaves_parents_chart_running(
    stopping: Callable[[Any], Any],
) -> None:
    chart = stopping(Recorder("ITEM", start=False))
    outcome: list[Any] = []

    def on_fork(chart: Any, e: Any) -> int:
        try:
            in_child(_a_new_chart_works)
            outcome.append("fine")
        except AssertionError as error:
            outcome.append(error)
        return chart.record(e)

    chart.states["recording"].catch(signal="FORK", handler=on_fork)
    chart.start_at()
    chart.post_fifo(event("FORK"))
    chart.post_fifo(event("ITEM"))

    chart.wait_for(2)
    assert outcome == ["fine"]


def test_child_that_returns_into_inherited_loop_ends(
    recorder: Callable[..., Recorder], stopping: Callable[[Any], Any]
) -> None:
    chart = stopping(Recorder("ITEM", start=False))
    children: list[int] = []

    def on_fork(chart: Any, e: Any) -> int:
        child = os.fork()
        if child:
            children.append(child)
        return chart.record(e)

    chart.states["recording"].catch(signal="FORK", handler=on_fork)
    chart.start_at()
    chart.post_fifo(event("FORK"))
    chart.wait_for(1)

    ended = [(0, 0)]
    try:
        wait_until(lambda: ended.append(os.waitpid(children[0], os.WNOHANG)) or ended[-1][0], what="the child ended")
    except AssertionError:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
        raise
    assert ended[-1][1] == 0
