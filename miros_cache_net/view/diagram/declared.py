"""Diagrams of charts whose states are known: from `STATES` of a class, or from a factory's states and its trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from miros.activeobject import Factory
from miros.event import signals

from miros_cache_net.statechart.factory import StatesFactory
from miros_cache_net.statechart.state import OWN_EVENTS, State
from miros_cache_net.view.diagram.model import Diagram, DrawnState, gathered
from miros_cache_net.view.diagram.seen import NOTE, start_seen, transitions_seen

_OWN: Final = {number: name for name, number in ((own, signals[of]) for own, of in OWN_EVENTS.items())}


def of_class(chart: type[StatesFactory]) -> Diagram:
    """The chart as `STATES` of its class declares it."""
    return Diagram(
        chart.__name__,
        tuple(_drawn(state) for state in chart.STATES),
        gathered(_declared(chart.STATES)),
        start=chart.STATES[0].name,
    )


def of_factory(chart: Factory) -> Diagram:
    """A chart with states of its own making: where its transitions go is what its trace has seen so far."""
    declared = {state.name: state for state in getattr(chart, "STATES", ())}
    catches = {name: _catches(chart, name) for name in chart.states}
    made = [each for each in transitions_seen(chart) if each[0] not in declared and each[2] in catches]
    moving = {(source, signal) for source, signal, _ in made}
    initial = {source: target for source, signal, target in made if signal == "INIT"}
    states = []
    for name in _outermost_first(chart):
        if name in declared:
            states.append(_drawn(declared[name]))
            continue
        own = catches[name]
        hooks = tuple(each for each in own if each not in OWN_EVENTS and (name, each) not in moving)
        begins = (initial[name],) if name in initial else ()
        states.append(DrawnState(name, _parent(chart, name), "ENTRY" in own, "EXIT" in own, hooks, begins))
    return Diagram(
        str(chart.name or type(chart).__name__),
        tuple(states),
        gathered(iter([*_declared(tuple(declared.values())), *(each for each in made if each[1] != "INIT")])),
        start=_start(chart),
        note="" if len(declared) == len(states) else NOTE,
    )


def _drawn(state: State) -> DrawnState:
    hooks = tuple(signal for signal, targets in state.on.items() if signal not in OWN_EVENTS and not targets)
    return DrawnState(
        state.name, state.parent, "ENTRY" in state.on, "EXIT" in state.on, hooks, state.on.get("INIT", ())
    )


def _declared(states: tuple[State, ...]) -> Iterator[tuple[str, str, str]]:
    for state in states:
        for signal, targets in state.on.items():
            if signal not in OWN_EVENTS:
                yield from ((state.name, signal, target) for target in targets)


def _catches(chart: Any, name: str) -> dict[str, None]:
    """The signals that the state handles; not those that `miros` itself fills in, which do nothing."""
    found = getattr(chart, "_lookup", {}).get(name, {})
    return {
        _OWN.get(number) or str(signals.name_for_signal(number)): None
        for number, handler in found.items()
        if getattr(handler, "__module__", "") != "miros.hsm"
    }


def _parent(chart: Any, name: str) -> str | None:
    parent = getattr(chart, "_parents", {}).get(name)
    found = getattr(parent, "__name__", None)
    return found if found in chart.states else None


def _outermost_first(chart: Any) -> list[str]:
    def depth(name: str) -> int:
        parent = _parent(chart, name)
        return 0 if parent is None else 1 + depth(parent)

    return sorted(chart.states, key=depth)


def _start(chart: Any) -> str | None:
    if getattr(chart, "STATES", ()):
        return str(chart.STATES[0].name)
    return start_seen(chart)
