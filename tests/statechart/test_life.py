"""Start, stop and start again: any time, any thread, nothing left over."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from miros.activeobject import ActiveFabric
from miros.event import Event, return_status, signals

from miros_cache_net.errors import ChartError
from miros_cache_net.events import event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.testing import wait_until
from tests.charts.recorder import TIMEOUT_S, Recorder

HANDLED = return_status.HANDLED
ROOT = Path(__file__).parents[2]


def test_chart_may_be_stopped_unstarted_and_twice() -> None:
    chart = Recorder("ITEM", start=False)

    chart.stop()
    assert not chart.running
    chart.start_at("recording")
    assert chart.running
    chart.stop()
    chart.stop()

    assert not chart.running
    assert not chart.thread.is_alive()


def test_chart_in_a_with_block_is_stopped_afterwards() -> None:
    with pytest.raises(KeyError), Recorder("ITEM") as chart:
        assert chart.running
        raise KeyError("reaches the caller")
    assert not chart.running


def test_restarted_chart_keeps_subscriptions_and_trace(stopping: Any) -> None:
    chart = stopping(Recorder("ITEM"))
    chart.post_fifo(event("ITEM", 1))
    chart.wait_for(1)
    chart.stop()
    chart.post_fifo(event("ITEM", "to a stopped chart"))
    chart.queue.deque.append(event("ITEM", "left over"))
    lines = len(chart.spy())

    for turn in range(2, 5):
        chart.start_at("recording")
        chart.publish(event("ITEM", turn))
        chart.wait_for(turn)
        chart.stop()

    assert chart.payloads == [1, 2, 3, 4]
    assert chart.trace().count("start_at() top->recording") == 4
    again = chart.spy()[lines:]
    assert again[:2] == ["START", "SEARCH_FOR_SUPER_SIGNAL:recording"]
    assert again.count("START") == again.count("ITEM:recording") == 3


def test_posts_to_a_stopped_chart_are_counted(stopping: Any) -> None:
    chart, last = Recorder("ITEM"), stopping(Recorder("LAST"))
    chart.stop()

    chart.post_fifo(event("ITEM"))
    chart.post_lifo(event("ITEM"))
    chart.post_later(event("ITEM"), 0.0)
    chart.post_fifo(event("ITEM"), period=0.001)
    chart.subscribe("ITEM")
    chart.publish(event("ITEM"))
    chart.publish(event("LAST"))
    last.wait_for(1)

    assert chart.queue.late >= 2
    assert len(chart.queue) == 0
    assert not any(each is chart.queue for each in ActiveFabric().fifo_subscriptions["ITEM"])


def test_a_stopped_chart_forgets_what_was_waiting(stopping: Any) -> None:
    chart = stopping(Recorder("ITEM", start=False))
    entered, leave = threading.Event(), threading.Event()

    def on_block(chart: Any, e: Event) -> Any:
        entered.set()
        assert leave.wait(TIMEOUT_S)
        return HANDLED

    chart.states["recording"].catch(signal="BLOCK", handler=on_block)
    chart.start_at("recording")
    chart.post_fifo(event("BLOCK"))
    assert entered.wait(TIMEOUT_S)
    for number in range(5):
        chart.post_fifo(event("ITEM", number))
        chart.defer(event("ITEM", number))
    stopper = threading.Thread(target=chart.stop)
    stopper.start()
    wait_until(lambda: not chart.running)
    leave.set()
    stopper.join()

    assert (len(chart.queue), len(chart.defer_queue)) == (0, 0)
    assert chart.payloads == []


def test_chart_that_stopped_itself_can_be_started_again(stopping: Any) -> None:
    chart = stopping(Recorder("ITEM", start=False))
    chart.states["recording"].catch(signal="END", handler=lambda chart, e: chart.stop() or HANDLED)

    for turn in range(1, 4):
        chart.start_at("recording")
        chart.post_fifo(event("ITEM", turn))
        chart.post_fifo(event("END"))
        chart.post_fifo(event("ITEM", "after the end"))
        wait_until(lambda: not chart.running)

    chart.thread.join(TIMEOUT_S)
    assert chart.payloads == [1, 2, 3]


def test_chart_restarts_only_when_its_handler_is_done(stopping: Any) -> None:
    order: list[str] = []
    go_on = threading.Event()

    def on_end(chart: Any, e: Event) -> Any:
        chart.stop()
        assert go_on.wait(TIMEOUT_S)
        order.append("old handler done")
        return HANDLED

    chart = stopping(Chart("ends"))
    entered = chart.create(state="a").catch(signal="END", handler=on_end)
    entered.catch(signal=signals.ENTRY_SIGNAL, handler=lambda chart, e: order.append("entered") or HANDLED)
    chart.start_at("a")
    chart.post_fifo(event("END"))
    wait_until(lambda: not chart.running)
    starter = threading.Thread(target=chart.start_at, args=("a",))
    starter.start()
    wait_until(lambda: chart._phase != "stopped")
    go_on.set()
    starter.join()

    assert order == ["entered", "old handler done", "entered"]


def test_stop_waits_for_the_first_state(stopping: Any) -> None:
    entering, go_on, stopped = threading.Event(), threading.Event(), threading.Event()

    def on_entry(chart: Any, e: Event) -> Any:
        entering.set()
        assert go_on.wait(TIMEOUT_S)
        assert not stopped.is_set()
        done.append("entered")
        return HANDLED

    done: list[str] = []
    chart = stopping(Chart("slow"))
    chart.create(state="a").catch(signal=signals.ENTRY_SIGNAL, handler=on_entry)
    starter = threading.Thread(target=chart.start_at, args=("a",))
    starter.start()
    assert entering.wait(TIMEOUT_S)
    stopper = threading.Thread(target=lambda: chart.stop() or stopped.set())
    stopper.start()
    wait_until(lambda: chart._phase == "stopped")
    go_on.set()
    stopper.join()
    starter.join()

    assert done == ["entered"]
    assert chart.thread is None


def test_chart_stopped_by_first_state_has_no_thread() -> None:
    chart = Recorder("ITEM", start=False)
    ends = chart.create(state="ends")
    ends.catch(signal=signals.ENTRY_SIGNAL, handler=lambda chart, e: chart.stop() or HANDLED)

    chart.start_at("ends")

    assert not chart.running
    assert chart.thread is None
    chart.start_at("recording")
    assert chart.running
    chart.stop()


def test_start_is_refused_while_running_and_in_handlers(stopping: Any) -> None:
    chart = stopping(Recorder("ITEM", start=False))
    refusals: list[str] = []

    def on_start(chart: Any, e: Event) -> Any:
        try:
            chart.stop()
            chart.start_at("recording")
        except ChartError as error:
            refusals.append(str(error))
        return HANDLED

    chart.states["recording"].catch(signal="START_AGAIN", handler=on_start)
    chart.start_at("recording")
    with pytest.raises(ChartError, match=r"running already; stop\(\) it before"):
        chart.start_at("recording")
    chart.post_fifo(event("START_AGAIN"))
    wait_until(lambda: refusals)

    assert refusals == ["chart recorder cannot be started by its own handler; let another thread do it"]


def test_charts_survive_concurrent_starts_stops_and_posts(stopping: Any) -> None:
    charts = [stopping(Recorder("ITEM", name=f"churned {number}")) for number in range(2)]
    surprises: list[BaseException] = []

    def churn(who: int) -> None:
        for turn in range(60):
            chart = charts[turn % 2]
            try:
                (chart.stop if who % 2 else lambda chart=chart: chart.start_at("recording"))()
            except ChartError:
                pass
            except BaseException as error:
                surprises.append(error)
            chart.post_fifo(event("ITEM"))
            chart.publish(event("ITEM"))
            chart.post_later(event("ITEM"), 0.0)

    threads = [threading.Thread(target=churn, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "a deadlock"

    assert surprises == []
    for chart in charts:
        chart.stop()
        chart.start_at("recording")
        chart.post_fifo(event("ITEM", "last"))
        chart.wait_for(lambda events: "last" in [e.payload for e in events])


def test_first_charts_of_many_threads_share_one_fabric() -> None:
    program = """
        import sys, threading, time
        from tests.charts.recorder import Recorder
        from miros.activeobject import ActiveFabric, FiberThreadEvent, InstrumentionWriter
        from miros_cache_net.events import event
        assert None not in [each.instance for each in (ActiveFabric, FiberThreadEvent, InstrumentionWriter)]
        sys.setswitchinterval(1e-6)
        for shared in (ActiveFabric(), InstrumentionWriter()):  # widen the gap between look and start
            shared.start = lambda start=shared.start: (time.sleep(0.05), start())
        barrier, charts = threading.Barrier(24), []
        def build(number):
            barrier.wait()
            charts.append(Recorder("ITEM", name=str(number)))
        threads = [threading.Thread(target=build, args=(n,)) for n in range(24)]
        [t.start() for t in threads]; [t.join() for t in threads]
        assert {id(c.fabric) for c in charts} == {id(ActiveFabric())}
        assert {id(c.writer) for c in charts} == {id(InstrumentionWriter())}
        assert {id(c.fabric_task_event) for c in charts} == {id(FiberThreadEvent())}
        names = [t.name for t in threading.enumerate()]
        assert names.count("fifo active fabric") == names.count("lifo active fabric") == 1, names
        assert sum("thread_runner" in name for name in names) == 1, names
        charts[0].publish(event("ITEM"))
        for chart in charts:
            chart.wait_for(1)
            assert len(chart.events) == 1
            chart.stop()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60, cwd=ROOT)


def test_failing_first_state_leaves_nothing_running(stopping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = stopping(Recorder("ITEM", start=False))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda thread: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            chart.start_at("recording")
    assert not chart.running

    chart.start_at("recording")
    chart.post_fifo(event("ITEM"))

    chart.wait_for(1)


def test_chart_without_handlers_starts_and_stops(stopping: Any) -> None:
    chart = stopping(Chart("bare"))
    chart.create(state="a")

    chart.start_at("a")
    chart.post_fifo(event("ITEM"))
    wait_until(lambda: "ITEM:a" in chart.spy())
