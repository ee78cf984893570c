"""Delayed and repeated posts: one thread for all of them, cancelled at once, as `miros` users call them."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.errors import Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.timers import THREAD_NAME, TIMERS, Timer
from miros_cache_net.testing import wait_until
from tests.charts.recorder import TIMEOUT_S, Recorder
from tests.threads import NewThreads

LONG_S = 600.0


@pytest.fixture(autouse=True)
def no_timer_is_left_behind() -> Iterator[None]:
    yield
    assert len(TIMERS) == 0


def timers_in_memory() -> int:
    gc.collect()
    return sum(isinstance(each, Timer) for each in gc.get_objects())


def timer_threads() -> int:
    return sum(thread.name == THREAD_NAME for thread in threading.enumerate())


def test_five_thousand_waiting_posts_cost_one_thread(stopping: Any) -> None:
    charts = [stopping(Chart(f"chart {number}")) for number in range(10)]
    charts[0].post_later(event("ITEM"), LONG_S)
    threads = NewThreads()

    for number in range(5000):
        charts[number % 10].post_fifo(event("ITEM"), period=LONG_S, times=1)

    assert threads.names() == []
    assert timer_threads() == 1
    assert len(TIMERS) == 5001


def test_two_thousand_finished_one_shots_exhaust_nothing(recorder: Callable[..., Recorder]) -> None:
    chart = recorder("ITEM")

    for number in range(2000):
        chart.post_fifo(event("ITEM", number), period=0.001, times=1)

    chart.wait_for(2000)
    assert sorted(chart.payloads) == list(range(2000))
    wait_until(lambda: timers_in_memory() < 1000)


def test_posts_come_when_due_in_any_order(recorder: Callable[..., Recorder]) -> None:
    chart = recorder("ITEM")

    for delay_s in (0.15, 0.05, 0.1, 0.0):
        chart.post_later(event("ITEM", delay_s), delay_s)

    chart.wait_for(4)
    assert chart.payloads == [0.0, 0.05, 0.1, 0.15]


@pytest.mark.parametrize("way", ["cancel_event", "cancel_events", "the id itself", "stop"])
def test_a_cancelled_post_never_comes(way: str, recorder: Callable[..., Recorder]) -> None:
    chart = recorder("ITEM", "OTHER")
    identity = chart.post_fifo(event("ITEM"), period=LONG_S)
    assert len(TIMERS) == 1

    {
        "cancel_event": lambda: chart.cancel_event(uuid=identity),
        "cancel_events": lambda: chart.cancel_events(event("ITEM")),
        "the id itself": identity.cancel,
        "stop": chart.stop,
    }[way]()

    assert len(TIMERS) == 0


class Payload:
    """Something that can be seen to be gone."""


@pytest.mark.parametrize("way", ["timer", "chart", "signal"])
def test_cancelled_post_keeps_nothing_of_its_event(way: str, stopping: Any) -> None:
    chart: Chart = stopping(Chart("posts"))
    payload = Payload()
    gone = weakref.ref(payload)
    timer = chart.post_later(event("later", payload), 3600.0)
    del payload
    {
        "timer": timer.cancel,
        "chart": lambda: chart.cancel_event(timer),
        "signal": lambda: chart.cancel_events("later"),
    }[way]()
    gc.collect()
    assert gone() is None


def test_cancelling_one_post_leaves_all_others_alone(recorder: Callable[..., Recorder]) -> None:
    chart, other = recorder("ITEM", "OTHER"), recorder("ITEM", name="other")
    first = chart.post_fifo(event("ITEM", "first"), period=0.1, times=1)
    chart.post_lifo(event("ITEM", "second"), period=0.1, times=1)
    chart.post_later(event("OTHER", "third"), 0.1)
    other.post_later(event("ITEM", "fourth"), 0.1)

    chart.cancel_event(uuid=first)
    other.cancel_event(uuid=first)
    chart.cancel_event(uuid="unknown")
    chart.wait_for(2)
    chart.cancel_events(event("ITEM"))

    other.wait_for(1)
    assert chart.payloads == ["second", "third"]


def test_nothing_is_posted_after_cancel_has_returned(
    recorder: Callable[..., Recorder],
) -> None:
    chart = recorder("ITEM")

    for turn in range(100):
        identity = chart.post_fifo(event("ITEM", turn), period=0.0001)
        wait_until(lambda turn=turn: chart.payloads and chart.payloads[-1] == turn)
        chart.cancel_event(uuid=identity)
        chart.post_fifo(event("ITEM", ("cancelled", turn)))
        chart.wait_for(lambda events, turn=turn: ("cancelled", turn) in [e.payload for e in events[-3:]])
        assert chart.payloads[-1] == ("cancelled", turn), "posted after it was cancelled"


def test_a_post_repeats_as_often_as_asked(recorder: Callable[..., Recorder]) -> None:
    chart, last = recorder("ITEM"), recorder("LAST")

    chart.post_fifo(event("ITEM"), period=0.01, times=3)
    assert chart.post_fifo(event("ITEM"), period=LONG_S, times=1, deferred=False) is None
    chart.post_lifo(event("ITEM"), period=0.01, times=3, deferred=False)
    chart.wait_for(7)
    last.post_later(event("LAST"), 0.1)
    last.wait_for(1)

    assert len(chart.events) == 7
    assert len(TIMERS) == 0


def test_post_without_times_repeats_until_cancelled(recorder: Callable[..., Recorder]) -> None:
    chart = recorder("ITEM")

    identity = chart.post_fifo(event("ITEM"), period=0.001, deferred=False)

    chart.wait_for(50)
    chart.cancel_event(uuid=identity)


def test_handler_may_cancel_and_repeat_its_own_post(recorder: Callable[..., Recorder], stopping: Any) -> None:
    chart = stopping(Recorder(start=False))

    def on_tick(chart: Any, e: Any) -> int:
        chart.cancel_events(e)
        if e.payload < 20:
            chart.post_later(event("TICK", e.payload + 1), 0.001)
        return chart.record(e)

    chart.create(state="ticking").catch(signal="TICK", handler=on_tick)
    chart.start_at("ticking")
    chart.post_fifo(event("TICK", 0))

    chart.wait_for(21)
    assert chart.payloads == list(range(21))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_impossible_delay_is_refused(seconds: float) -> None:
    chart = Chart("refuses")

    with pytest.raises(ValueError, match="finite number of seconds"):
        chart.post_later(event("ITEM"), seconds)
    with pytest.raises(ValueError, match="period above 0"):
        chart.post_fifo(event("ITEM"), period=0)


def test_delayed_post_to_full_queue_is_reported(
    monkeypatch: pytest.MonkeyPatch, stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    errors = recorder(CACHE_ERROR)
    monkeypatch.setattr(limits, "CHART_QUEUE_EVENTS", 2)
    chart = stopping(Chart("full"))

    for _ in range(4):
        chart.post_later(event("ITEM"), 0.0)
    chart.post_lifo(event("ITEM"), period=0.0, times=1)

    assert errors.wait_for(1)[0].payload.reason == Reason.OVERFLOW
    wait_until(lambda: len(TIMERS) == 0)
    assert chart.refused_events == 2
    assert len(chart.queue) == 3


def test_delayed_post_shows_in_spy_before_its_event(recorder: Callable[..., Recorder]) -> None:
    chart = recorder("ITEM")

    chart.post_later(event("ITEM"), 0.01)
    chart.wait_for(1)
    wait_until(lambda: "ITEM:recording:HOOK" in chart.spy())

    spy = chart.spy()
    assert spy.index("POST_FIFO:ITEM") + 1 == spy.index("ITEM:recording")


def test_raising_timer_is_logged_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    fired = threading.Event()

    def explode(timer: Any) -> None:
        raise SystemExit("a timer")

    with caplog.at_level(logging.ERROR):
        TIMERS.schedule(0.0, explode)
        TIMERS.schedule(0.01, lambda timer: fired.set)
        assert fired.wait(TIMEOUT_S)

    assert "the other timers go on" in caplog.text


def test_cancelled_timers_leave_memory_before_they_are_due() -> None:
    kept = TIMERS.schedule(LONG_S, lambda timer: None)

    for _ in range(10_000):
        TIMERS.schedule(LONG_S, lambda timer: None).cancel()

    assert timers_in_memory() < 1000
    assert len(TIMERS) == 1
    kept.cancel()
    kept.cancel()


def test_repetitions_that_were_missed_are_not_made_up() -> None:
    timer = Timer(TIMERS, lambda timer: None, due_s=1001.0, period_s=1.0, times=0)

    timer.put_off(now_s=1001.25)
    assert timer.due_s == 1002.0
    timer.put_off(now_s=1060.5)

    assert timer.due_s == 1061.5
