"""A chart's states and transitions as data: its class is built from them, and diagrams and documentation read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from miros.event import return_status

from miros_cache_net.errors import ChartError

#: A handler returns this if it has handled its event and the chart stays in its state.
HANDLED: Final = int(return_status.HANDLED)
#: The targets of an event that is handled without a transition.
STAYS: Final[tuple[str, ...]] = ()
#: The names that `miros` uses for a state's own events.
OWN_EVENTS: Final = {"ENTRY": "ENTRY_SIGNAL", "INIT": "INIT_SIGNAL", "EXIT": "EXIT_SIGNAL"}


class State:
    """One state: its name, its parent's name, and the signals that it handles.

    ``State("found", "search", ENTRY=STAYS, REFACTOR_SEARCH="search", retry=("search", "lost"))``: each signal with the
    states that its handler may go to.  The handler is the chart's method ``_<state>_<SIGNAL>``.  ``ENTRY``, ``INIT``
    and ``EXIT`` are the state's own events.

    name    unique in its chart
    parent  None: the state has no parent
    on      by signal: the states that the handler may go to, the most usual first; none if it always stays
    """

    __slots__ = ("name", "on", "parent")

    def __init__(self, name: str, parent: str | None = None, /, **on: str | tuple[str, ...]) -> None:
        self.name = name
        self.parent = parent
        self.on = {signal: (targets,) if isinstance(targets, str) else targets for signal, targets in on.items()}

    def handler_of(self, signal: str) -> str:
        """The name of the chart's method that handles `signal` in this state."""
        return f"_{self.name}_{signal}"


def check(chart: type, states: Sequence[State]) -> None:
    """Raise ChartError if `chart` cannot be built from `states`: a name is missing or ambiguous."""
    for complaint in _complaints(chart, states):
        raise ChartError(f"{chart.__name__}: {complaint}")


def _complaints(chart: type, states: Sequence[State]) -> Iterator[str]:
    names = {state.name for state in states}
    seen: set[str] = set()
    handlers: set[str] = set()
    for state in states:
        if state.name in seen:
            yield f"state {state.name} is declared twice"
        if state.parent is not None and state.parent not in seen:
            yield f"state {state.name} lies in {state.parent}, which is not declared before it"
        seen.add(state.name)
        for signal, targets in state.on.items():
            handler = state.handler_of(signal)
            if not callable(getattr(chart, handler, None)):
                yield f"state {state.name} handles {signal}, but there is no method {handler}"
            if handler in handlers:
                yield f"the method {handler} would handle events of two states"
            handlers.add(handler)
            if signal in ("ENTRY", "EXIT") and targets:
                yield f"state {state.name}: {signal} cannot make a transition"
            for target in targets:
                if target not in names:
                    yield f"state {state.name}: {signal} leads to {target}, which is not a state"
