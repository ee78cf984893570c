"""Each chart remembers its last steps; what miros tells of them stays as it was."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from miros.activeobject import ActiveObject
from miros.event import Event, return_status, signals
from miros.hsm import spy_on

from miros_cache_net import limits
from miros_cache_net.events import event
from miros_cache_net.observe.steps import DETAIL, Recorder, Step, StepReader
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.listener import Listener
from miros_cache_net.statechart.plain_charts import plain_rings
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.testing import wait_until


class Lamp(Chart):
    """PRESS turns it on and off, TELL publishes CACHE_ERROR-like news, BAD raises, MAKE starts another chart."""

    STATES = (
        State("lamp", TELL=STAYS, BAD=STAYS, MAKE=STAYS),
        State("off", "lamp", PRESS="on"),
        State("on", "lamp", PRESS="off"),
    )

    def __init__(self, name: str = "lamp") -> None:
        super().__init__(name)
        self.start_at("off")

    def _off_PRESS(self, e: Event) -> int:
        return self.trans("on")

    def _on_PRESS(self, e: Event) -> int:
        return self.trans("off")

    def _lamp_TELL(self, e: Event) -> int:
        for _ in range(int(e.payload)):
            self.publish(event("PRESS_TOLD"))
        return HANDLED

    def _lamp_BAD(self, e: Event) -> int:
        raise ValueError("bad")

    def _lamp_MAKE(self, e: Event) -> int:
        made = Lamp("made")
        made.stop()
        self.post_fifo(event("PRESS"))
        return HANDLED


@pytest.fixture
def reader() -> StepReader:
    """Reads only what happens after this."""
    made = StepReader()
    made.fresh()
    return made


def steps(reader: StepReader, number: int, name: str = "lamp") -> list[Step]:
    found: list[Step] = []

    def enough() -> bool:
        found.extend(each for each in reader.fresh() if each.chart == name)
        return len(found) >= number

    wait_until(enough, what=f"{number} steps")
    return found


def test_step_says_what_happened(stopping: Any, reader: StepReader) -> None:
    chart = stopping(Lamp())
    for signal in ("PRESS", "BAD", "NOBODY_KNOWS"):
        chart.post_fifo(event(signal))
    told = [(step.event, step.from_state, step.to_state, step.hooks) for step in steps(reader, 4)]
    assert told == [
        ("start_at", "top", "off", ()),
        ("PRESS", "off", "on", ()),
        ("BAD", "on", "on", ("lamp",)),
        ("NOBODY_KNOWS", "on", "on", ()),
    ]


def test_ring_keeps_the_last_steps(stopping: Any, reader: StepReader) -> None:
    chart = stopping(Lamp())
    for _ in range(limits.CHART_STEPS + 50):
        chart.post_fifo(event("PRESS"))
    chart.post_fifo(event("LAST_PRESS"))
    wait_until(lambda: not len(chart.queue), what="the queue")
    found = steps(reader, limits.CHART_STEPS)
    assert found[-1].event == "LAST_PRESS" and len(found) <= limits.CHART_STEPS + 1


def test_effect_has_a_later_moment_than_its_cause(stopping: Any, reader: StepReader) -> None:
    chart = stopping(Lamp())
    heard = threading.Event()
    listener = stopping(Listener({"PRESS_TOLD": lambda _: heard.set()}, "ear"))
    chart.post_fifo(event("TELL", 1))
    assert heard.wait(30) and listener.running
    found: dict[str, Step] = {}

    def both() -> bool:
        found.update({each.event: each for each in reader.fresh()})
        return {"TELL", "PRESS_TOLD"} <= found.keys()

    wait_until(both, what="both steps")
    assert found["TELL"].moment < found["PRESS_TOLD"].moment
    assert found["TELL"].sent == ("PRESS_TOLD",)


def test_what_a_step_sent_is_bounded(stopping: Any, reader: StepReader) -> None:
    stopping(Lamp()).post_fifo(event("TELL", 1000))
    assert len(steps(reader, 2)[-1].sent) == limits.STEP_SENT


def test_chart_started_by_a_handler_is_a_step_inside(stopping: Any, reader: StepReader) -> None:
    stopping(Lamp()).post_fifo(event("MAKE"))
    made = next(each for each in steps(reader, 3) if each.event == "MAKE")
    assert made.sent == ("PRESS",)


def test_gone_charts_leave_their_steps(reader: StepReader) -> None:
    chart = Lamp("short-lived")
    chart.stop()
    del chart
    gc.collect()
    assert [each.event for each in reader.fresh() if each.chart == "short-lived"] == ["start_at"]


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """The garbage collector looks at nothing that earlier tests left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collections")
def test_gone_charts_are_bounded(reader: StepReader) -> None:
    for number in range(limits.GONE_CHARTS + 5):
        chart = Lamp(f"gone-{number}")
        chart.stop()
        del chart
        gc.collect()
    gone = {each.chart for each in reader.fresh() if each.chart.startswith("gone-")}
    assert len(gone) <= limits.GONE_CHARTS and "gone-0" not in gone


def test_details_are_recorded_only_while_watched(stopping: Any, reader: StepReader) -> None:
    chart = stopping(Lamp())
    chart.post_fifo(event("PRESS", {"password": "sesame"}))
    (bare,) = steps(reader, 2)[1:]
    DETAIL.want(chart, spy=True, payloads=True)
    try:
        chart.post_fifo(event("PRESS", {"password": "sesame", "n": 1}))
        (watched,) = steps(reader, 1)
    finally:
        DETAIL.want(chart, spy=False, payloads=False)
    assert (bare.spy, bare.payload) == ((), "")
    assert "PRESS:on" in watched.spy
    assert watched.payload == "{'password': ***, 'n': 1, }"


def test_trace_and_spy_tell_what_they_told(stopping: Any) -> None:
    chart = stopping(Lamp())
    chart.post_fifo(event("PRESS"))
    wait_until(lambda: "PRESS() off->on" in (chart.trace() or ""), what="the trace")
    assert [line for line in chart.spy() if line.startswith("PRESS")] == ["PRESS:off"]


def test_charts_on_miros_alone_are_read_too() -> None:
    recorder = Recorder()
    recorder.also_read(plain_rings)
    reader = StepReader(recorder)

    @spy_on
    def first(chart: Any, e: Event) -> Any:
        if e.signal == signals.GO_ON:
            return chart.trans(second)
        chart.temp.fun = chart.top
        return return_status.SUPER

    @spy_on
    def second(chart: Any, e: Event) -> Any:
        chart.temp.fun = chart.top
        return return_status.SUPER

    plain = ActiveObject("plain")
    plain.start_at(first)
    plain.post_fifo(Event(signal=signals.GO_ON))
    found = steps(reader, 2, "plain")
    plain.post_fifo(Event(signal=signals.GO_ON))
    assert [(each.event, each.from_state, each.to_state) for each in found] == [
        ("start_at", "top", "first"),
        ("GO_ON", "first", "second"),
    ]
    assert not [each for each in reader.fresh() if each.chart == "plain"]
    plain.stop()
