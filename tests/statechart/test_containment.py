"""A mistake in a handler stays in that handler: the chart lives, its states agree, and CACHE_ERROR tells."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from miros.event import Event, return_status, signals
from miros.hsm import spy_on

from miros_cache_net.errors import ChartError, Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import STAYS, State
from miros_cache_net.testing import wait_until
from tests.charts.recorder import Recorder

HANDLED = return_status.HANDLED


class Two(Chart):
    """States a and b inside outer; GO goes to b, BACK to a, ALIVE counts, BAD does what the test says."""

    STATES = (State("outer", ALIVE=STAYS), State("a", "outer", GO="b"), State("b", "outer", BACK="a"))

    def __init__(self, bad: Callable[[Event], Any], where: str = "BAD", name: str = "two") -> None:
        super().__init__(name)
        self.alive = 0
        self.states["b" if where.endswith("_SIGNAL") else "a"].catch(signal=where, handler=lambda chart, e: bad(e))
        self.start_at("a")

    def _outer_ALIVE(self, e: Event) -> int:
        self.alive += 1
        return int(HANDLED)

    def _a_GO(self, e: Event) -> int:
        return self.trans("b")

    def _b_BACK(self, e: Event) -> int:
        return self.trans("a")

    def handles_the_next(self) -> None:
        before = self.alive
        self.post_fifo(event("ALIVE"))
        wait_until(lambda: self.alive == before + 1, what="the next event was handled")


def raising(error: BaseException) -> Callable[[Event], Any]:
    def handler(e: Event) -> Any:
        raise error

    return handler


def test_raising_handler_is_reported_and_chart_goes_on(stopping: Any, recorder: Callable[..., Recorder]) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Two(raising(ValueError("two\nlines"))))

    chart.post_fifo(event("BAD"))

    payload = errors.wait_for(1)[0].payload
    assert payload.reason == Reason.HANDLER == "handler"
    assert payload.message == "chart two: the handler of BAD in state a raised ValueError: two lines"
    assert (payload.file_name, payload.source) == ("", "two")
    chart.handles_the_next()


@pytest.mark.parametrize("wrong", [None, True, "HANDLED", 99, 4.0])
def test_handler_without_a_status_is_reported(wrong: Any, stopping: Any, recorder: Callable[..., Recorder]) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Two(lambda e: wrong))

    chart.post_fifo(event("BAD"))

    assert f"returned {wrong!r}, which is not a return_status" in errors.wait_for(1)[0].payload.message
    chart.handles_the_next()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_exit_raised_in_a_handler_ends_no_thread(
    error: BaseException, stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Two(raising(error)))

    chart.post_fifo(event("BAD"))

    assert f"BAD in state a raised {type(error).__name__}" in errors.wait_for(1)[0].payload.message
    chart.handles_the_next()


def test_unprintable_exception_is_contained_and_reported(stopping: Any, recorder: Callable[..., Recorder]) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    errors = recorder(CACHE_ERROR)
    for name, bad in (("raises", raising(Unprintable())), ("returns", lambda e: Unprintable())):
        chart = stopping(Two(bad, name=name))
        chart.post_fifo(event("BAD"))
        chart.handles_the_next()

    raised, returned = (e.payload.message for e in errors.wait_for(2))
    assert "the handler of BAD in state a raised" in raised
    assert "the handler of BAD in state a returned" in returned


def test_ctrl_c_in_first_entry_reaches_the_program() -> None:
    class Interrupted(Chart):
        STATES = (State("a", ENTRY=STAYS),)

        def _a_ENTRY(self, e: Event) -> int:
            raise KeyboardInterrupt

    chart = Interrupted("interrupted")

    with pytest.raises(KeyboardInterrupt):
        chart.start_at()

    assert not chart.running
    assert chart.thread is None


@pytest.mark.parametrize("where", ["ENTRY_SIGNAL", "INIT_SIGNAL"])
def test_a_transition_arrives_although_the_targets_handler_raises(
    where: str, stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Two(raising(OSError("no disk")), where))

    chart.post_fifo(event("GO"))
    chart.handles_the_next()

    assert chart.state_name == "b"
    assert f"{where} in state b raised OSError: no disk" in errors.wait_for(1)[0].payload.message
    chart.post_fifo(event("BACK"))
    chart.handles_the_next()
    assert chart.state_name == "a"


@pytest.mark.parametrize("returned", ["nothing", "a transition"])
def test_state_is_left_although_its_exit_handler_fails(
    returned: str, stopping: Any, recorder: Callable[..., Recorder]
) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Two(lambda e: chart.trans("b") if returned == "a transition" else None, "EXIT_SIGNAL"))

    chart.post_fifo(event("GO"))
    chart.post_fifo(event("BACK"))
    chart.handles_the_next()

    assert chart.state_name == "a"
    assert "EXIT_SIGNAL in state b" in errors.wait_for(1)[0].payload.message


def test_first_state_is_entered_although_its_entry_raises(stopping: Any, recorder: Callable[..., Recorder]) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Recorder("ALIVE", start=False))
    chart.states["recording"].catch(signal=signals.ENTRY_SIGNAL, handler=lambda chart, e: 1 / 0)

    chart.start_at("recording")
    chart.post_fifo(event("ALIVE"))

    chart.wait_for(1)
    assert "ZeroDivisionError" in errors.wait_for(1)[0].payload.message


def test_handler_that_returns_super_leaves_event_to_parent(stopping: Any) -> None:
    chart = stopping(Two(lambda e: return_status.SUPER, where="ALIVE"))

    chart.handles_the_next()


def test_transition_to_no_state_is_handlers_mistake(stopping: Any, recorder: Callable[..., Recorder]) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Two(lambda e: chart.trans("nowhere")))

    chart.post_fifo(event("BAD"))

    assert "has no state 'nowhere'" in errors.wait_for(1)[0].payload.message
    chart.handles_the_next()


def test_start_in_no_state_is_refused() -> None:
    with pytest.raises(ChartError, match="chart two has no state 'nowhere'; create"):
        Chart("two").start_at("nowhere")


def test_raising_plain_state_function_ends_no_thread(stopping: Any, recorder: Callable[..., Recorder]) -> None:
    @spy_on
    def outer(chart: Chart, e: Event) -> Any:
        if e.signal == signals.BAD:
            raise LookupError("not contained at the handler")
        chart.temp.fun = chart.top
        return return_status.SUPER

    @spy_on
    def inner(chart: Chart, e: Event) -> Any:
        if e.signal == signals.ALIVE:
            return return_status.HANDLED
        chart.temp.fun = outer
        return return_status.SUPER

    errors = recorder(CACHE_ERROR)
    chart = stopping(Chart("classic"))
    chart.start_at(inner)

    chart.post_fifo(event("BAD"))

    assert "broke the event processor: LookupError" in errors.wait_for(1)[0].payload.message
    chart.post_fifo(event("ALIVE"))
    wait_until(lambda: "ALIVE:inner:HOOK" in chart.spy(), what="the next event was handled")


@pytest.mark.parametrize("mistake", ["raises", "reports"])
def test_failing_handler_of_cache_error_is_only_logged(
    mistake: str, stopping: Any, recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Recorder("ALIVE", CACHE_ERROR, name="victim", start=False))

    def handler(e: Event) -> Any:
        if mistake == "raises":
            raise RuntimeError("again")
        chart.report(Reason.IO, "again")
        return HANDLED

    chart.states["recording"].catch(signal=CACHE_ERROR, handler=lambda chart, e: handler(e))
    chart.start_at("recording")
    with caplog.at_level(logging.WARNING, "miros_cache_net"):
        chart.report(Reason.IO, "first")
        errors.wait_for(1)
        wait_until(lambda: "again" in caplog.text, what="the second failure was logged")
        chart.publish(event("ALIVE"))
        chart.wait_for(1)
        errors.report(Reason.IO, "last")

    assert [payload.message for payload in (e.payload for e in errors.wait_for(2))] == ["first", "last"]


def test_report_publishes_once_although_logging_raises(stopping: Any, recorder: Callable[..., Recorder]) -> None:
    errors = recorder(CACHE_ERROR)
    chart = stopping(Recorder(name="reporter"))

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            chart.report(Reason.IO, "from within the log")
            raise OSError("disk full")

    handler = Broken()
    chart.log.addHandler(handler)
    try:
        chart.report(Reason.NO_SPACE, "no\n  space", "cache.json", exc=OSError("x"))
    finally:
        chart.log.removeHandler(handler)
    chart.report(Reason.IO, "last")

    payloads = [e.payload for e in errors.wait_for(2)]
    assert [tuple(payload) for payload in payloads] == [
        (Reason.NO_SPACE, "no space", "cache.json", "reporter"),
        (Reason.IO, "last", "", "reporter"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "STOP_ACTIVE_OBJECT_SIGNAL",
        "REFLECTION_SIGNAL",
        "ENTRY_SIGNAL",
        "SEARCH_FOR_SUPER_SIGNAL",
        "SUBSCRIBE_META_SIGNAL",
        "PUBLISH_META_SIGNAL",
    ],
)
def test_internal_event_from_outside_is_ignored(name: str, stopping: Any, recorder: Callable[..., Recorder]) -> None:
    entered = []
    errors = recorder(CACHE_ERROR)
    chart = stopping(Recorder("ALIVE", start=False))
    chart.subscribe(name)
    chart.states["recording"].catch(signal=signals.ENTRY_SIGNAL, handler=lambda chart, e: entered.append(1) or HANDLED)
    chart.start_at("recording")
    loaded = Event.loads(f'{{"signal_name": "{name}", "payload": {{"event": 1}}}}')

    chart.post_fifo(loaded)
    chart.publish(loaded)
    chart.publish(event("ALIVE"))
    chart.wait_for(1)
    errors.report(Reason.IO, "the only one")

    assert [e.signal_name for e in chart.events] == ["ALIVE"]
    assert len(entered) == 1
    assert [e.payload.message for e in errors.wait_for(1)] == ["the only one"]


def test_garbage_in_the_queue_ends_no_thread(recorder: Callable[..., Recorder]) -> None:
    chart = recorder("ALIVE")

    for garbage in (None, "ALIVE", 7, object()):
        chart.queue.append(garbage)
    chart.post_fifo(event("ALIVE"))

    assert len(chart.wait_for(1)) == 1
    assert chart.thread is not threading.current_thread()
