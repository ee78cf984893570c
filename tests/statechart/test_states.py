"""A chart's states as data of its class: what is built from them, and what no chart can be built from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from miros.event import Event

from miros_cache_net.errors import ChartError, Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.testing import wait_until
from tests.charts.recorder import Recorder


class Door(Chart):
    """Opens and closes; what it is asked to do in vain it ignores."""

    STATES = (
        State("door", INIT="closed", KICK=("closed", "broken")),
        State("closed", "door", ENTRY=STAYS, OPEN="opened"),
        State("opened", "door", EXIT=STAYS, CLOSE="closed", WRONG="closed", LOOK=STAYS),
        State("broken"),
    )

    def __init__(self, open_signal: str = "OPEN", **options: Any) -> None:
        super().__init__("door", signal_names={"OPEN": open_signal}, **options)
        self.said: list[str] = []
        self.start_at()

    def _door_INIT(self, e: Event) -> int:
        return self.trans("closed")

    def _door_KICK(self, e: Event) -> int:
        return self.trans("broken")

    def _closed_ENTRY(self, e: Event) -> int:
        self.said.append("shut")
        return HANDLED

    def _closed_OPEN(self, e: Event) -> int:
        return self.trans("opened")

    def _opened_CLOSE(self, e: Event) -> int:
        return self.trans("closed")

    def _opened_WRONG(self, e: Event) -> int:
        return self.trans("broken")

    def _opened_LOOK(self, e: Event) -> int:
        self.said.append("open")
        return HANDLED

    def _opened_EXIT(self, e: Event) -> int:
        self.said.append("squeak")
        return HANDLED


def steps(chart: Chart) -> list[tuple[str, str, str]]:
    """The chart's trace: what it left, for which signal, for what."""
    return [
        (left, signal, entered)
        for signal, left, entered in re.findall(r"e->(\w+)\(\) (\w+)->(\w+)", chart.trace() or "")
    ]


def post(chart: Door, *signal_names: str) -> None:
    for name in signal_names:
        chart.post_fifo(event(name))


def test_a_chart_does_what_its_states_say(stopping: Callable[[Any], Any]) -> None:
    door = stopping(Door())
    post(door, "CLOSE", "OPEN", "LOOK", "CLOSE", "OPEN", "KICK")
    wait_until(lambda: door.state_name == "broken")
    assert door.said == ["shut", "open", "squeak", "shut", "squeak"]
    assert steps(door) == [
        ("top", "start_at", "closed"),
        ("closed", "OPEN", "opened"),
        ("opened", "CLOSE", "closed"),
        ("closed", "OPEN", "opened"),
        ("opened", "KICK", "broken"),
    ]


def test_undeclared_transition_is_reported_and_not_made(
    stopping: Callable[[Any], Any], recorder: Callable[..., Recorder]
) -> None:
    heard, door = recorder(CACHE_ERROR), stopping(Door())
    post(door, "OPEN", "WRONG", "LOOK")
    wait_until(lambda: "open" in door.said)
    assert door.state_name == "opened"
    (error,) = heard.wait_for(1)
    assert error.payload.reason is Reason.HANDLER
    assert "WRONG in state opened asked for a transition to broken" in error.payload.message


def test_signal_may_be_named_when_chart_is_built(stopping: Callable[[Any], Any]) -> None:
    lifted, usual = stopping(Door("LIFT")), stopping(Door())
    for door in (lifted, usual):
        post(door, "LIFT", "LOOK")
    wait_until(lambda: "open" in lifted.said)
    wait_until(lambda: not len(usual.queue))
    assert ("closed", "LIFT", "opened") in steps(lifted)
    assert usual.state_name != "opened"


def test_name_for_an_unhandled_signal_is_refused() -> None:
    with pytest.raises(ChartError, match="Listener2: no state handles NEWS"):

        class Listener2(Chart):
            STATES = (State("listening"),)

        Listener2("listener", signal_names={"NEWS": "OTHER"})


def test_a_subclass_overrides_handlers_and_adds_states(stopping: Callable[[Any], Any]) -> None:
    class Gate(Door):
        STATES = (*Door.STATES, State("locked", "door", UNLOCK="closed"))

        def _closed_OPEN(self, e: Event) -> int:
            return super()._closed_OPEN(e)

        def _opened_LOOK(self, e: Event) -> int:
            self.said.append("a garden")
            return HANDLED

        def _locked_UNLOCK(self, e: Event) -> int:
            return self.trans("closed")

    gate = stopping(Gate())
    post(gate, "OPEN", "LOOK")
    wait_until(lambda: "a garden" in gate.said)
    gate.stop()
    gate.start_at("locked")
    post(gate, "UNLOCK")
    wait_until(lambda: ("locked", "UNLOCK", "closed") in steps(gate))


def test_handler_added_to_one_chart_concerns_no_other(stopping: Callable[[Any], Any]) -> None:
    knocked: list[str] = []
    first, second = stopping(Door()), stopping(Door())
    first.states["door"].catch(signal="KNOCK", handler=lambda chart, e: knocked.append("first") or HANDLED)
    for door in (second, first):
        post(door, "KNOCK", "OPEN")
    wait_until(lambda: first.state_name == second.state_name == "opened")
    assert knocked == ["first"]


@pytest.mark.parametrize(
    ("states", "complaint"),
    [
        ((State("a"), State("a")), "state a is declared twice"),
        ((State("b", "a"), State("a")), "state b lies in a, which is not declared before it"),
        ((State("a"), State("b", "b")), "state b lies in b, which is not declared before it"),
        ((State("a", NEWS=STAYS),), "state a handles NEWS, but there is no method _a_NEWS"),
        ((State("a", GO="b"),), "state a: GO leads to b, which is not a state"),
        ((State("a", ENTRY="a"),), "state a: ENTRY cannot make a transition"),
        ((State("a", EXIT="a"),), "state a: EXIT cannot make a transition"),
        ((State("a", b_C=STAYS), State("a_b", C=STAYS)), "the method _a_b_C would handle events of two states"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_chart_can_be_declared_with_wrong_states(states: tuple[State, ...], complaint: str) -> None:
    handlers = dict.fromkeys(("_a_GO", "_a_ENTRY", "_a_EXIT", "_a_b_C"), lambda self, e: HANDLED)
    with pytest.raises(ChartError, match=f"^Wrong: {complaint}$"):
        type("Wrong", (Chart,), {"STATES": states, **handlers})
