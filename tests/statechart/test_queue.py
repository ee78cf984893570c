"""A chart's queue: nothing that was accepted is lost, what is refused is counted and told, nobody is blocked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from miros.event import Event, return_status

from miros_cache_net import limits
from miros_cache_net.errors import Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.queue import ChartQueue
from miros_cache_net.statechart.state import STAYS, State
from miros_cache_net.testing import wait_until
from tests.charts.recorder import TIMEOUT_S, Recorder

BOUND = 8


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> int:
    """A queue small enough to fill."""
    monkeypatch.setattr(limits, "CHART_QUEUE_EVENTS", BOUND)
    return BOUND


class Gated(Recorder):
    """A recorder that stays in its first ITEM's handler until `gate` is opened."""

    def __init__(self, **options: Any) -> None:
        super().__init__("ITEM", start=False, **options)
        self.gate = threading.Event()
        self.inside = threading.Event()
        self.states["recording"].catch(signal="ITEM", handler=self.on_item)
        self.start_at("recording")

    def on_item(self, e: Event) -> int:
        self.inside.set()
        assert self.gate.wait(TIMEOUT_S)
        return self.record(e)

    def hold(self) -> None:
        """Let it handle event 0 and stay there."""
        self.gate.clear()
        self.inside.clear()
        self.post_fifo(event("ITEM", 0))
        assert self.inside.wait(TIMEOUT_S)


@pytest.fixture
def gated(stopping: Callable[[Any], Any]) -> Callable[..., Gated]:
    charts: list[Gated] = []

    def build(**options: Any) -> Gated:
        chart: Gated = stopping(Gated(**options))
        charts.append(chart)
        return chart

    yield build
    for chart in charts:
        chart.gate.set()


@pytest.fixture
def held(bound: int, gated: Callable[..., Gated]) -> Gated:
    """A chart in the middle of event 0, whose queue takes BOUND more."""
    chart = gated()
    chart.hold()
    return chart


def test_waiting_events_of_busy_chart_keep_their_order(gated: Callable[..., Gated]) -> None:
    chart = gated()
    chart.hold()

    for number in range(1, limits.CHART_QUEUE_EVENTS + 1):
        chart.post_fifo(event("ITEM", number))
    chart.gate.set()

    chart.wait_for(limits.CHART_QUEUE_EVENTS + 1)
    assert chart.payloads == list(range(limits.CHART_QUEUE_EVENTS + 1))
    assert chart.refused_events == 0


def test_full_queue_refuses_newest_and_reports_once(held: Gated, recorder: Callable[..., Recorder]) -> None:
    errors = recorder(CACHE_ERROR)

    for number in range(1, BOUND + 4):
        held.post_fifo(event("ITEM", number))
    assert held.refused_events == 3
    held.gate.set()
    held.wait_for(BOUND + 1)
    assert held.payloads == list(range(BOUND + 1))

    held.hold()
    for number in range(1, BOUND + 3):
        held.post_fifo(event("ITEM", number))
    assert held.refused_events == 5
    held.gate.set()
    held.wait_for(2 * (BOUND + 1))
    errors.report(Reason.IO, "last")

    told = [e.payload for e in errors.wait_for(lambda events: events and events[-1].payload.message == "last")]
    assert [payload.reason for payload in told] == [Reason.OVERFLOW, Reason.OVERFLOW, Reason.IO]
    assert told[0].message.startswith(f"chart recorder is {BOUND} events behind and refuses more")


def test_flood_around_the_bound_is_reported_once() -> None:
    floods: list[int] = []
    queue = ChartQueue(4, lambda: floods.append(1), lambda item: None)

    for _ in range(50):
        queue.append(1)
        if len(queue) == 4:
            queue.append(2)
            queue.popleft()

    assert len(floods) == 1
    assert queue.refused > 10


def whole_writes_win() -> ChartQueue:
    """A queue for two, in which text in capitals replaces all that came before it."""
    return ChartQueue(2, lambda: None, lambda item: None, str.isupper)


def drained(queue: ChartQueue) -> str:
    return "".join(queue.popleft() for _ in range(len(queue.waiting())))


@pytest.mark.parametrize(
    ("posted", "kept"),
    [
        ("ab", "ab"),
        ("abc", "ab"),
        ("abC", "abC"),
        ("ABCDE", "ABE"),
        ("abCdE", "abE"),
        ("abCd", "abC"),
    ],
)
def test_full_queue_keeps_the_newest_whole_write(posted: str, kept: str) -> None:
    queue = whole_writes_win()
    for item in posted:
        queue.append(item)

    assert "".join(queue.waiting()) == kept
    assert queue.refused == len(posted) - len(kept)
    assert drained(queue) == kept
    with pytest.raises(IndexError):
        queue.popleft()


def test_what_waits_beyond_the_bound_keeps_its_place() -> None:
    queue = whole_writes_win()
    for item in "abCD":
        queue.append(item)
    assert queue.popleft() == "a"
    queue.append("e")
    assert queue.popleft() == "b"
    queue.append("f")
    queue.append("G")

    assert drained(queue) == "DfG"
    assert queue.refused == 2


def test_what_waits_beyond_the_bound_wakes_the_chart() -> None:
    queue, taken = whole_writes_win(), []
    for item in "abC":
        queue.append(item)
    for _ in range(3):
        queue.wait(timeout=TIMEOUT_S)
        taken.append(queue.popleft())
    assert taken == ["a", "b", "C"]


def test_cleared_queue_forgets_what_waited_beyond_the_bound() -> None:
    queue = whole_writes_win()
    for item in "abC":
        queue.append(item)
    queue.clear()
    queue.append("d")
    assert drained(queue) == "d"


def test_events_beyond_the_bound_delay_no_other_subscriber(held: Gated, recorder: Callable[..., Recorder]) -> None:
    other = recorder("ITEM", name="other")
    other.queue.bound = 100

    for number in range(1, BOUND + 6):
        other.publish(event("ITEM", number))

    other.wait_for(BOUND + 5)
    wait_until(lambda: held.refused_events == 5)
    held.gate.set()
    held.wait_for(BOUND + 1)


def test_full_queue_accepts_posts_to_the_front(held: Gated) -> None:
    for number in range(1, BOUND + 1):
        held.post_fifo(event("ITEM", number))

    held.post_lifo(event("ITEM", "front"))
    held.gate.set()

    held.wait_for(BOUND + 2)
    assert held.payloads[:3] == [0, "front", 1]
    assert held.refused_events == 0


def test_chart_that_posts_to_itself_survives_a_flood(bound: int, stopping: Any) -> None:
    class Busy(Chart):
        STATES = (State("a", ITEM=STAYS, LAST=STAYS),)

        def __init__(self) -> None:
            super().__init__("busy")
            self.handled = 0
            self.last = threading.Event()
            self.start_at()

        def _a_ITEM(self, e: Event) -> int:
            self.handled += 1
            if e.payload == "outside":
                for _ in range(3):
                    self.post_fifo(event("ITEM", "own"))
                    self.post_lifo(event("ITEM", "own"))
            return int(return_status.HANDLED)

        def _a_LAST(self, e: Event) -> int:
            self.last.set()
            return int(return_status.HANDLED)

    chart = stopping(Busy())

    def flood() -> None:
        for _ in range(300):
            chart.post_fifo(event("ITEM", "outside"))

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "a poster is blocked"
    chart.post_lifo(event("LAST"))

    assert chart.last.wait(TIMEOUT_S), "the chart is blocked"
    assert chart.refused_events > 0


def test_events_of_each_thread_are_handled_in_order(
    recorder: Callable[..., Recorder],
) -> None:
    chart = recorder("ITEM")

    def post(poster: int) -> None:
        for number in range(500):
            chart.post_fifo(event("ITEM", (poster, number)))

    threads = [threading.Thread(target=post, args=(poster,)) for poster in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    chart.wait_for(4000)
    for poster in range(8):
        assert [number for who, number in chart.payloads if who == poster] == list(range(500))


def test_deferred_events_beyond_the_bound_are_reported(
    monkeypatch: pytest.MonkeyPatch, stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    monkeypatch.setattr(limits, "CHART_DEFERRED_EVENTS", 3)
    errors = recorder(CACHE_ERROR)
    chart = stopping(Recorder("RECALL", "SEEN", name="later", start=False))
    recalled: list[Any] = []

    def on_item(chart: Any, e: Event) -> Any:
        chart.defer(e) if e.payload not in recalled else chart.record(e)
        return return_status.HANDLED

    def on_recall(chart: Any, e: Event) -> Any:
        while (back := chart.recall()) is not None:
            recalled.append(back.payload)
        return return_status.HANDLED

    chart.states["recording"].catch(signal="ITEM", handler=on_item).catch(signal="RECALL", handler=on_recall)
    chart.start_at("recording")
    for number in range(5):
        chart.post_fifo(event("ITEM", number))
    chart.post_fifo(event("RECALL"))

    chart.wait_for(3)
    assert chart.payloads == [0, 1, 2]
    assert chart.refused_events == 2
    errors.report(Reason.IO, "last")
    told = errors.wait_for(lambda events: events and events[-1].payload.message == "last")
    assert [e.payload.reason for e in told] == [Reason.OVERFLOW, Reason.IO]
    assert "has deferred 3 events" in told[0].payload.message


def test_recalled_event_finds_its_place_in_full_queue(bound: int, stopping: Any) -> None:
    chart = stopping(Recorder("ITEM", start=False))

    def on_recall(chart: Any, e: Event) -> Any:
        chart.post_fifo(event("ITEM", BOUND))
        assert len(chart.queue) == BOUND
        return return_status.HANDLED if chart.recall() else None

    chart.states["recording"].catch(signal="RECALL", handler=on_recall)
    chart.defer(event("ITEM", "kept"))
    for number in range(1, BOUND):
        chart.post_fifo(event("ITEM", number))
    chart.post_lifo(event("RECALL"))

    chart.start_at("recording")

    chart.wait_for(BOUND + 1)
    assert chart.payloads == [*range(1, BOUND + 1), "kept"]
    assert chart.refused_events == 0
