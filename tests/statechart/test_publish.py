"""Publish and subscribe: in order, from anywhere, shared with plain miros charts, and past every mistake of theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from miros.activeobject import ActiveFabric, Factory
from miros.event import Event, SignalSource, return_status, signals

from miros_cache_net.events import event
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import STAYS, State
from miros_cache_net.testing import wait_until
from tests.charts.recorder import TIMEOUT_S, Recorder

HANDLED = return_status.HANDLED
#: Threads of miros die of the mistakes planted here, and say so.
DEATHS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Plain(Factory):
    """An ordinary miros chart: subscribes to ITEM in its first state, keeps the payloads."""

    def __init__(self, name: str = "plain") -> None:
        super().__init__(name)
        self.payloads: list[Any] = []
        self.a = (
            self.create(state="a")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.on_entry)
            .catch(signal=signals.ITEM, handler=self.on_item)
            .to_method()
        )
        self.nest(self.a, parent=None)
        self.start_at(self.a)

    def on_entry(self, e: Event) -> Any:
        self.subscribe(Event(signal=signals.ITEM))
        return HANDLED

    def on_item(self, e: Event) -> Any:
        self.payloads.append(e.payload)
        return HANDLED

    def stop(self) -> None:
        super().stop()
        fabric.unsubscribe(self.queue, "ITEM", "fifo")


class Sink:
    """A subscriber that is no chart."""

    def __init__(self, append: Callable[[Event], None]) -> None:
        self.append = append


@pytest.fixture
def sink() -> Iterator[Callable[[Callable[[Event], None]], Sink]]:
    """`sink(function)`: subscribed to ITEM until the test is over."""
    sinks: list[Sink] = []

    def build(append: Callable[[Event], None]) -> Sink:
        made = Sink(append)
        fabric.subscribe(made, "ITEM", "fifo")
        sinks.append(made)
        return made

    yield build
    for each in sinks:
        fabric.unsubscribe(each, "ITEM", "fifo")


def _fabric_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.endswith("active fabric"))


def test_published_events_of_equal_priority_arrive_in_order(
    recorder: Callable[..., Recorder],
) -> None:
    chart = recorder("ITEM")

    for number in range(400):
        chart.publish(event("ITEM", number))

    chart.wait_for(400)
    assert chart.payloads == list(range(400))


def test_urgent_events_overtake_those_that_still_wait(
    recorder: Callable[..., Recorder], sink: Callable[[Callable[[Event], None]], Sink]
) -> None:
    chart = recorder("ITEM")
    opened = threading.Event()
    sink(lambda e: opened.wait(TIMEOUT_S) if e.payload == "first" else None)

    chart.publish(event("ITEM", "first"))
    chart.wait_for(1)
    for priority in (1000, 2, 1, 2000):
        for number in range(3):
            chart.publish(event("ITEM", (priority, number)), priority=priority)
    opened.set()

    chart.wait_for(13)
    assert chart.payloads[1:] == [(priority, number) for priority in (1, 2, 1000, 2000) for number in range(3)]


def test_chart_without_instrumentation_publishes_and_subscribes(
    stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    other = recorder("REPLY")
    chart = stopping(Recorder("ITEM", start=False))
    chart.instrumented = False
    chart.start_at("recording")

    other.publish(event("ITEM", 1))
    chart.wait_for(1)
    chart.subscribe("MORE")
    chart.publish(event("REPLY", 2))

    other.wait_for(1)
    assert chart.subscribed("MORE")
    assert chart.spy() is None


def test_chart_subscribed_in_handler_gets_what_others_get(recorder: Callable[..., Recorder], stopping: Any) -> None:
    first = recorder("ITEM", name="first")
    second = stopping(Recorder("SUBSCRIBE", name="second", start=False))
    b = second.create(state="b").catch(signal="ITEM", handler=second.record)
    b.catch(signal="SUBSCRIBE", handler=lambda chart, e: chart.subscribe("ITEM") or HANDLED)
    second.start_at("b")

    first.publish(event("SUBSCRIBE"))
    wait_until(lambda: second.subscribed("ITEM"))
    first.publish(event("ITEM", 1))

    first.wait_for(1)
    second.wait_for(1)


def test_subscriptions_of_the_start_path_take_effect_immediately(
    stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    other = recorder("ITEM", name="other")
    seen: list[Any] = []

    class Early(Recorder):
        STATES = (State("early", ENTRY=STAYS, ITEM=STAYS),)
        _early_ITEM = Recorder.record

        def _early_ENTRY(self, e: Event) -> Any:
            self.subscribe(signals.ITEM)
            self.publish(event("ITEM", "from the entry handler"))
            other.wait_for(1)
            seen.append(self.thread)
            return HANDLED

    chart = stopping(Early(start=False))
    chart.start_at()

    assert chart.wait_for(1)[0].payload == "from the entry handler"
    assert seen == [None]


@pytest.mark.parametrize("kind", ["a name", "a number", "an event", "a name, lifo"])
def test_signal_may_be_named_in_any_way(kind: str, stopping: Any, recorder: Callable[..., Recorder]) -> None:
    last = recorder("LAST")
    chart = stopping(Recorder(start=False))
    chart.create(state="b").catch(signal="ITEM", handler=chart.record)
    named: Any = {"a number": signals.ITEM, "an event": event("ITEM")}.get(kind, "ITEM")
    queue_type = "lifo" if "lifo" in kind else None
    chart.start_at("b")

    for _ in range(3):
        chart.subscribe(named, queue_type)
    chart.publish(event("ITEM", 1))
    chart.wait_for(1)
    chart.unsubscribe(named, queue_type)
    chart.publish(event("ITEM", 2))
    chart.publish(event("LAST"))
    last.wait_for(1)

    assert chart.payloads == [1]


@pytest.mark.parametrize("wrong", [10**9, 3.5, None])
def test_subscribing_to_what_is_no_signal_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"signal"):
        Chart("wrong").subscribe(wrong)
    with pytest.raises(ValueError, match="queue_type must be 'fifo' or 'lifo', not 'FIFO'"):
        Chart("wrong").subscribe("ITEM", "FIFO")


def test_thread_may_publish_through_an_unstarted_chart(
    recorder: Callable[..., Recorder],
) -> None:
    chart = recorder("ITEM")
    never_started = Chart("never started")

    thread = threading.Thread(target=lambda: never_started.publish(event("ITEM", 1)))
    thread.start()
    thread.join()

    assert chart.wait_for(1)[0].payload == 1


@pytest.mark.parametrize("garbage", [None, "ITEM", 5, {"signal": 1}])
def test_publishing_no_event_raises_at_the_caller(garbage: Any, recorder: Callable[..., Recorder]) -> None:
    chart = recorder("ITEM")
    for priority in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            chart.publish(event("ITEM"), priority)

    with pytest.raises(TypeError, match="only a miros Event can be published"):
        chart.publish(garbage)
    with pytest.raises(TypeError, match="only a miros Event can be posted"):
        chart.post_fifo(garbage)

    assert ActiveFabric().is_alive()
    chart.publish(event("ITEM", 1))
    chart.wait_for(1)


@DEATHS
def test_publication_arrives_after_fabric_thread_was_killed(
    recorder: Callable[..., Recorder], sink: Callable[[Callable[[Event], None]], Sink]
) -> None:
    def explode(e: Event) -> None:
        if e.payload == "bomb":
            raise RuntimeError("a subscriber of somebody else")

    chart = recorder("ITEM")
    sink(explode)
    lifo = ActiveFabric().lifo_thread

    for turn in range(3):
        chart.publish(event("ITEM", "bomb"))
        wait_until(lambda: not ActiveFabric().is_alive(), what="the fabric's thread died")
        chart.publish(event("ITEM", turn))
        chart.wait_for(lambda events, turn=turn: events and events[-1].payload == turn)

    assert ActiveFabric().lifo_thread is lifo
    assert _fabric_threads() == ["fifo active fabric", "lifo active fabric"]


@DEATHS
def test_lost_fabric_thread_is_found_and_not_doubled(
    recorder: Callable[..., Recorder], sink: Callable[[Callable[[Event], None]], Sink]
) -> None:
    def explode(e: Event) -> None:
        if e.payload == "bomb":
            raise RuntimeError("a subscriber of somebody else")

    chart = recorder("ITEM")
    sink(explode)
    lifo = ActiveFabric().lifo_thread
    chart.publish(event("ITEM", "bomb"))
    wait_until(lambda: not ActiveFabric().is_alive(), what="the fabric's thread died")

    ActiveFabric().start()  # as a plain chart's start does
    assert ActiveFabric().lifo_thread is None
    chart.publish(event("ITEM", "after"))
    chart.wait_for(lambda events: events and events[-1].payload == "after")

    assert ActiveFabric().lifo_thread is lifo
    assert _fabric_threads() == ["fifo active fabric", "lifo active fabric"]


def test_stopped_fabric_starts_again_with_next_publication(
    recorder: Callable[..., Recorder],
) -> None:
    chart = recorder("ITEM")

    ActiveFabric().stop()
    chart.post_fifo(event("ITEM", "posted"))
    chart.wait_for(1)
    chart.publish(event("ITEM", "published"))

    chart.wait_for(2)
    assert chart.running
    assert chart.payloads == ["posted", "published"]


def test_events_flow_between_plain_charts_and_ours(stopping: Any, recorder: Callable[..., Recorder]) -> None:
    ours = recorder("ITEM")
    plain = stopping(Plain())
    wait_until(lambda: any(each is plain.queue for each in ActiveFabric().fifo_subscriptions["ITEM"]))

    plain.publish(event("ITEM", "from plain"))
    ours.wait_for(1)
    ours.publish(event("ITEM", "from ours"))
    ours.wait_for(2)
    wait_until(lambda: len(plain.payloads) == 2)

    assert ours.payloads == plain.payloads == ["from plain", "from ours"]


def test_stopping_chart_takes_an_event_from_nobody(
    stopping: Any, recorder: Callable[..., Recorder], sink: Callable[[Callable[[Event], None]], Sink]
) -> None:
    before = recorder("ITEM", name="before")
    leaving = [stopping(Recorder("ITEM", name="leaving"))]
    sink(lambda e: leaving.pop().stop() if leaving else None)
    leaving.append(stopping(Recorder("ITEM", name="leaving too")))
    after = [recorder("ITEM", name=f"after {number}") for number in range(3)]

    for number in range(3):
        before.publish(event("ITEM", number))

    for chart in (before, *after):
        chart.wait_for(3)
        assert chart.payloads == [0, 1, 2]


def test_thousand_charts_leave_no_subscription_behind(stopping: Any) -> None:
    chart = stopping(Recorder("COMES_AND_GOES"))
    chart.stop()
    before = len(ActiveFabric().fifo_subscriptions["COMES_AND_GOES"])

    for _ in range(1000):
        chart.start_at("recording")
        chart.stop()

    queues = ActiveFabric().fifo_subscriptions["COMES_AND_GOES"]
    assert len(queues) == before
    assert not any(each is chart.queue for each in queues)


def test_running_charts_register_no_new_signals(recorder: Callable[..., Recorder]) -> None:
    recorder("ITEM").stop()
    known = len(signals)

    for _ in range(3):
        chart = recorder("ITEM")
        chart.post_later(event("ITEM", 1), 0.0)
        chart.publish(event("ITEM", 2))
        chart.wait_for(2)

    assert len(signals) == known


def test_signals_registered_at_once_get_distinct_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(SignalSource):  # type: ignore[misc]
        def __len__(self) -> int:
            length = super().__len__()
            time.sleep(0.001)
            return int(length)

    monkeypatch.setattr(fabric, "signals", Slow())
    numbers: list[int] = []

    def name(who: int) -> None:
        numbers.extend(fabric.signal_number_of(f"raced_{who}_{number}") for number in range(10))

    threads = [threading.Thread(target=name, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(numbers)) == 40
