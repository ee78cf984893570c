"""Spy and trace, live and kept: as `miros` users know them, and past every mistake of a callback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from miros.activeobject import Factory, InstrumentionWriter
from miros.event import Event, return_status, signals
from miros.hsm import stripped

from miros_cache_net.errors import Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import State
from miros_cache_net.testing import wait_until
from tests.charts.recorder import Recorder

HANDLED = return_status.HANDLED


def pair(base: Any, name: str = "pair") -> Any:
    """The same small chart on any base: a and b inside outer, with all kinds of handlers."""
    chart = base(name)

    def again(chart: Any, e: Event) -> Any:
        chart.post_fifo(event("HOOK"))
        chart.post_lifo(event("BACK"))
        chart.defer(event("HOOK"))
        return chart.trans(b)

    def back(chart: Any, e: Event) -> Any:
        chart.recall()
        return chart.trans(a)

    def handled(chart: Any, e: Event) -> Any:
        chart.scribble("noted")
        return HANDLED

    outer = (
        chart.create(state="outer")
        .catch(signal=signals.ENTRY_SIGNAL, handler=handled)
        .catch(signal=signals.INIT_SIGNAL, handler=lambda chart, e: chart.trans(a))
        .catch(signal=signals.HOOK, handler=handled)
        .to_method()
    )
    a = chart.create(state="a").catch(signal=signals.GO, handler=again).to_method()
    b = (
        chart.create(state="b")
        .catch(signal=signals.EXIT_SIGNAL, handler=handled)
        .catch(signal=signals.BACK, handler=back)
        .to_method()
    )
    chart.nest(outer, parent=None).nest(a, parent=outer).nest(b, parent=outer)
    chart.start_at(outer)
    return chart


def settled(chart: Any, hooks: int) -> None:
    wait_until(lambda: chart.spy().count("HOOK:outer:HOOK") == hooks and chart.spy()[-1].startswith("<- Queued:(0)"))


def test_spy_and_trace_equal_a_plain_factorys(stopping: Any) -> None:
    ours, plain = stopping(pair(Chart)), stopping(pair(Factory))

    for chart in (ours, plain):
        for hooks in range(1, 4):
            chart.post_fifo(event("GO"))
            settled(chart, 3 * hooks - 1)
            chart.post_fifo(event("HOOK"))
            settled(chart, 3 * hooks)

    assert ours.spy() == plain.spy()
    with stripped(ours.trace()) as our_trace, stripped(plain.trace()) as plain_trace:
        assert our_trace == plain_trace
        assert our_trace[0] == "[pair] e->start_at() top->a"
    assert ours.to_code("b").replace("<lambda>", "") == plain.to_code("b").replace("<lambda>", "")


def test_spy_keeps_posts_of_others_out_of_events(stopping: Any) -> None:
    chart = stopping(Recorder("ITEM", start=False))

    def on_ask(chart: Any, e: Event) -> Any:
        poster = threading.Thread(target=lambda: (chart.post_fifo(event("ITEM")), chart.subscribe("OTHERS")))
        poster.start()
        poster.join()
        chart.publish(event("OWN"))
        chart.subscribe("OWN", "lifo")
        return HANDLED

    chart.states["recording"].catch(signal="ASK", handler=on_ask)
    chart.post_lifo(event("ASK"))
    chart.start_at("recording")
    chart.wait_for(1)
    wait_until(lambda: "ITEM:recording:HOOK" in chart.spy())

    spy = chart.spy()
    assert spy[:2] == ["SUBSCRIBING TO:(ITEM, TYPE:fifo)", "POST_LIFO:ASK"]
    asked = spy.index("ASK:recording")
    assert spy[asked : asked + 4] == [
        "ASK:recording",
        "PUBLISH:(OWN, PRIORITY:1000)",
        "SUBSCRIBING TO:(OWN, TYPE:lifo)",
        "ASK:recording:HOOK",
    ]


def test_live_trace_and_spy_print_as_things_happen(stopping: Any, capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[str] = []

    def build(name: str) -> Chart:
        return Chart(name, live_trace=True, live_spy=True)

    chart = stopping(pair(build, "live"))
    chart.post_fifo(event("GO"))
    settled(chart, 2)
    chart.post_later(event("HOOK"), 0.0)
    chart.print("a line of one's own")
    settled(chart, 3)

    def all_printed() -> bool:
        printed.append(capsys.readouterr().out)
        return "".join(printed).count("HOOK:outer:HOOK") == 3

    wait_until(all_printed)
    lines = "".join(printed).splitlines()
    assert any(line.endswith("[live] e->start_at() top->a") for line in lines)
    assert any(line.endswith("[live] e->GO() a->b") for line in lines)
    assert "POST_FIFO:HOOK" in lines
    assert "a line of one's own" in lines


@pytest.mark.parametrize("error", [ValueError("bad line"), SystemExit(1)])
def test_raising_live_callback_is_reported_once_and_alone(
    error: BaseException, stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    errors = recorder(CACHE_ERROR)
    lines: list[str] = []

    def explode(line: str) -> None:
        raise error

    loud, quiet = stopping(Recorder("ITEM", name="loud", start=False)), stopping(Recorder("ITEM", start=False))
    loud.live_spy = quiet.live_spy = True
    loud.register_live_spy_callback(explode)
    quiet.register_live_spy_callback(lines.append)
    loud.start_at("recording")
    quiet.start_at("recording")
    loud.publish(event("ITEM"))

    wait_until(lambda: "ITEM:recording:HOOK" in lines)
    errors.report(Reason.IO, "last")
    told = [e.payload for e in errors.wait_for(lambda events: events and events[-1].payload.message == "last")]
    assert [payload.source for payload in told] == ["loud", "recorder"]
    assert f"a live callback of chart loud raised {type(error).__name__}" in told[0].message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_live_lines_return_after_the_writer_died(stopping: Any) -> None:
    lines: list[str] = []
    chart = stopping(Recorder("ITEM", start=False))
    chart.live_trace = chart.live_spy = True
    chart.register_live_spy_callback(lines.append)
    chart.start_at("recording")
    writer = InstrumentionWriter()

    writer._print(fn=lambda line: 1 / 0, content="as a plain chart's callback")
    wait_until(lambda: not writer.is_alive(), what="the writer's thread died")
    chart.post_fifo(event("ITEM"))

    wait_until(lambda: "ITEM:recording:HOOK" in lines)


def test_any_thread_may_read_spy_and_trace(stopping: Any) -> None:
    class Busy(Chart):
        STATES = (State("a", GO="b"), State("b", GO="a"))

        def _a_GO(self, e: Event) -> int:
            return self.trans("b")

        def _b_GO(self, e: Event) -> int:
            return self.trans("a")

    chart = stopping(Busy("busy"))
    chart.start_at()

    def post() -> None:
        for _ in range(3000):
            chart.post_fifo(event("GO"))

    poster = threading.Thread(target=post)
    poster.start()
    while poster.is_alive() or len(chart.queue):
        assert chart.trace().startswith("\n[")
        assert chart.spy()
    poster.join()
