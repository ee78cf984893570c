"""A step of a chart: what `miros` does and shows, whatever way leads from state to state."""

from __future__ import annotations

from typing import Any

import pytest
from miros.activeobject import Factory
from miros.event import Event, return_status, signals
from miros.hsm import spy_on, stripped

from miros_cache_net.events import event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.testing import wait_until

HANDLED = return_status.HANDLED
#: Every state and its parent.
TREE = {"s": None, "s1": "s", "s11": "s1", "s111": "s11", "s2": "s", "s21": "s2", "s211": "s21", "t": None}
#: Where each signal leads from the states that know it: all ways that miros tells apart.
WAYS = {
    "SAME": {"s111": "s111", "s2": "s2"},
    "OUT": {"s111": "s11", "s1": "s", "s211": "s2"},
    "IN": {"s": "s1", "s1": "s111", "s2": "s211"},
    "ACROSS": {"s111": "s211", "s211": "s111", "s11": "s21", "s": "s211"},
    "FAR": {"s1": "s211", "s2": "t", "t": "s111"},
    "HOME": {"s": "t", "t": "s"},
}


def tree(base: Any) -> Any:
    """The same chart on any base; `s21` leads on to its inner state by itself."""
    chart = base("tree")
    methods = {name: chart.create(state=name) for name in TREE}
    for signal, ways in WAYS.items():
        for name, target in ways.items():
            methods[name].catch(signal=_number(signal), handler=_leads_to(chart, target))
    methods["s21"].catch(signal=signals.INIT_SIGNAL, handler=_leads_to(chart, "s211"))
    for name in ("s", "s1", "s111", "s21"):
        methods[name].catch(signal=signals.ENTRY_SIGNAL, handler=_notes)
        methods[name].catch(signal=signals.EXIT_SIGNAL, handler=_notes)
    methods["s1"].catch(signal=_number("HOOK"), handler=_notes)
    methods["s11"].catch(signal=_number("HOOK"), handler=lambda chart, e: return_status.UNHANDLED)
    for name, parent in TREE.items():
        chart.nest(methods[name].to_method(), parent=parent and methods[parent].to_method())
    return chart


def _number(signal: str) -> int:
    signals.append(signal)
    return int(signals[signal])


def _leads_to(chart: Any, target: str) -> Any:
    return lambda chart, e: chart.trans(chart.states[target].state_method)


def _notes(chart: Any, e: Event) -> int:
    chart.scribble(f"noted {e.signal_name}")
    return int(HANDLED)


def settled(chart: Any, steps: int) -> None:
    wait_until(lambda: sum(line.startswith("<- Queued") for line in chart.spy()) == steps, what=f"step {steps}")


@pytest.mark.parametrize("start", ["s111", "s1", "s21", "t"])
@pytest.mark.parametrize("signal", [*WAYS, "HOOK", "NOBODY_KNOWS_IT"])
def test_every_transition_shows_what_a_plain_factory_shows(signal: str, start: str, stopping: Any) -> None:
    ours, plain = stopping(tree(Chart)), stopping(tree(Factory))
    for chart in (ours, plain):
        chart.start_at(chart.states[start].state_method)
        for step, name in enumerate((signal, "ACROSS", signal, "HOME", signal), 2):
            chart.post_fifo(event(name))
            settled(chart, step)

    assert ours.spy() == plain.spy()
    with stripped(ours.trace()) as our_trace, stripped(plain.trace()) as plain_trace:
        assert our_trace == plain_trace
    assert ours.state.fun.__name__ == ours.state_name == plain.state.fun.__name__
    assert ours.current_state() == plain.current_state()


def test_chart_without_instrumentation_keeps_no_lines(stopping: Any) -> None:
    chart = stopping(tree(Chart))
    chart.instrumented = False
    chart.start_at("s111")

    for signal, state in (("ACROSS", "s211"), ("OUT", "s2"), ("FAR", "t"), ("HOME", "s"), ("IN", "s1")):
        chart.post_fifo(event(signal))
        wait_until(lambda state=state: chart.state.fun.__name__ == state, what=state)
    assert chart.spy() is chart.trace() is None


def test_plain_function_states_show_what_miros_shows(stopping: Any) -> None:
    @spy_on
    def outer(chart: Any, e: Event) -> Any:
        if e.signal == _number("GO"):
            return chart.trans(inner)
        chart.temp.fun = chart.top
        return return_status.SUPER

    @spy_on
    def inner(chart: Any, e: Event) -> Any:
        if e.signal in (signals.ENTRY_SIGNAL, signals.EXIT_SIGNAL, _number("HOOK")):
            return HANDLED
        chart.temp.fun = outer
        return return_status.SUPER

    shown = []
    for base in (Chart, Factory):
        chart = stopping(base("classic"))
        chart.start_at(outer)
        for step, name in enumerate(("GO", "HOOK", "GO"), 2):
            chart.post_fifo(event(name))
            settled(chart, step)
        with stripped(chart.trace()) as trace:
            shown.append((chart.spy(), trace))
    assert shown[0] == shown[1]


def test_an_event_made_here_is_what_miros_makes() -> None:
    for name in ("CACHE", "a_signal_never_heard_of_before"):
        made, plain = event(name, {"a": 1}), Event(signal=name, payload={"a": 1})
        assert type(made) is type(plain)
        assert made.__dict__ == plain.__dict__
        assert repr(made) == repr(plain)
        assert Event.dumps(made) == Event.dumps(plain)
        assert signals[name] == made.signal
