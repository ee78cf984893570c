"""What a chart's spy trace tells of it: the states it has been in, how they nest, which signal led where.

A chart written as flat functions says nowhere what its states are; what it has done, its instrumentation has noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

from miros_cache_net.errors import ChartError
from miros_cache_net.statechart.state import OWN_EVENTS
from miros_cache_net.view.diagram.model import Diagram, DrawnState, gathered

#: A diagram with this note shows a part of its chart only.
NOTE: Final = "as far as its trace has seen"
_ENTRY, _INIT, _EXIT = (OWN_EVENTS[name] for name in ("ENTRY", "INIT", "EXIT"))
#: Lines about events and not about a state.
_NO_STATES: Final = ("POST_", "PUBLISH", "SUBSCRIBING", "RECALL", "SEARCH_FOR_SUPER_SIGNAL", "REFLECTION_SIGNAL")
_END_OF_STEP: Final = "<- Queued"


class _Line(NamedTuple):
    signal: str
    state: str
    hook: bool


def of_trace(chart: Any) -> Diagram:
    """The part of a chart that its trace has seen.  Raises `ChartError` if that is nothing."""
    name = str(getattr(chart, "name", "") or type(chart).__name__)
    steps = list(_steps(chart))
    states = dict.fromkeys(line.state for step in steps for line in step if line.signal in (_ENTRY, _INIT))
    if not states:
        raise ChartError(
            f"{name} cannot be drawn: its trace has seen no state; decorate its state functions with @spy_on, start "
            "it, and let some events arrive"
        )
    parents = _parents(steps, states)
    made = list(transitions_seen(chart))
    initial: dict[str, dict[str, None]] = {}
    for source, signal, target in made:
        if signal == "INIT":
            initial.setdefault(source, {})[target] = None
    hooks = {name: dict.fromkeys(x.signal for s in steps for x in s if x.hook and x.state == name) for name in states}
    return Diagram(
        name,
        tuple(
            DrawnState(each, parents[each], hooks=tuple(hooks[each]), initial=tuple(initial.get(each, ())))
            for each in sorted(states, key=lambda each: len(list(_up(each, parents))))
        ),
        gathered(each for each in made if each[1] != "INIT"),
        start=start_seen(chart),
        note=NOTE,
    )


def transitions_seen(chart: Any) -> Iterator[tuple[str, str, str]]:
    """`(state that handled it, signal, target)` of each transition; an initial one has the signal ``INIT``."""
    for step in _steps(chart):
        begun = [line.state for line in step if line.signal == _INIT]
        cause = [line for line in step if line.signal not in OWN_EVENTS.values()]
        if cause and begun and not cause[-1].hook:
            yield cause[-1].state, cause[-1].signal, begun[0]
        yield from ((source, "INIT", target) for source, target in pairwise(begun))


def start_seen(chart: Any) -> str | None:
    """The state in which the chart started; None if the trace does not reach back so far."""
    first = next(_steps(chart), None)
    if not first or first[0].signal != _ENTRY:
        return None
    return next((line.state for line in first if line.signal == _INIT), None)


def _steps(chart: Any) -> Iterator[list[_Line]]:
    """The spy trace, cut into steps that each ran to completion."""
    step: list[_Line] = []
    lines = list(chart.full.spy)
    states = {line.partition(":")[2] for line in lines if line.startswith((f"{_ENTRY}:", f"{_INIT}:"))}
    for text in lines:
        if text.startswith(_END_OF_STEP):
            yield step
            step = []
        elif not text.startswith(_NO_STATES):
            signal, _, rest = text.partition(":")
            state = rest.removesuffix(":HOOK")
            if state in states:
                step.append(_Line(signal, state, rest != state))
    if step:
        yield step


def _parents(steps: list[list[_Line]], states: dict[str, None]) -> dict[str, str | None]:
    """Entries go inwards, exits and unhandled events outwards; what is entered after an exit lies beside it."""
    found: dict[str, str | None] = {}
    beside: dict[str, str] = {}
    for step in steps:
        moves = [line for line in step if line.signal != _INIT]
        for one, two in pairwise(moves):
            if one.signal == _ENTRY == two.signal:
                found[two.state] = one.state
            elif one.signal == two.signal and one.state != two.state:
                found[one.state] = two.state
            elif one.signal == _EXIT and two.signal == _ENTRY and one.state != two.state:
                beside[two.state] = one.state
            elif two.signal == _ENTRY and one.signal != _EXIT:
                found.setdefault(two.state, one.state)
    for state, other in beside.items():
        if state not in found and other in found:
            found[state] = found[other]
    return {state: found.get(state) if state not in _loop(state, found) else None for state in states}


def _up(state: str, parents: dict[str, str | None]) -> Iterator[str]:
    at = parents.get(state)
    while at is not None:
        yield at
        at = parents.get(at)


def _loop(state: str, parents: dict[str, str | None]) -> set[str]:
    """The state itself if it lies, after a trace that makes no sense, in a state that lies in it."""
    at, passed = parents.get(state), set[str]()
    while at is not None and at not in passed:
        if at == state:
            return {state}
        passed.add(at)
        at = parents.get(at)
    return set()
