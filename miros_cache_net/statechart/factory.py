"""A chart's states, built from the data of its class or declared one by one as with `miros.Factory`.

It has no thread and no queue: `life` adds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from miros.activeobject import Factory
from miros.event import Event

from miros_cache_net.errors import ChartError
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.containment import Handler, contained
from miros_cache_net.statechart.state import OWN_EVENTS, State, check
from miros_cache_net.statechart.state_method import StateMethod, state_method

_Handlers = dict[str, dict[int, Handler]]


class StatesFactory(Factory):  # type: ignore[misc]
    """A `Factory` that is built from the `STATES` of its class and contains the errors of their handlers.

    signal_names  this chart's names for signals of `STATES` that are known only when it is built
    """

    #: The states, each after its parent; the chart starts in the first.
    STATES: ClassVar[tuple[State, ...]] = ()
    #: Shared by all charts of a class: its state functions, and their handlers for each choice of names.
    _methods: ClassVar[dict[str, StateMethod]] = {}
    _handlers: ClassVar[dict[tuple[tuple[str, str], ...], _Handlers]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check(cls, cls.STATES)
        cls._methods, cls._handlers = {state.name: state_method(state.name) for state in cls.STATES}, {}

    def __init__(self, name: str, signal_names: Mapping[str, str]) -> None:
        super().__init__(name)
        self._lookup = self._shared_handlers(signal_names)
        self._parents: dict[str, StateMethod] = {}
        for state in self.STATES:
            self.states[state.name] = self.StateMethodBlueprint(state.name, self, self._methods[state.name])
            self._parents[state.name] = self.top if state.parent is None else self._methods[state.parent]

    @classmethod
    def _shared_handlers(cls, signal_names: Mapping[str, str]) -> _Handlers:
        names = tuple(sorted(signal_names.items()))
        if names not in cls._handlers:
            for signal in signal_names.keys() - {signal for state in cls.STATES for signal in state.on}:
                raise ChartError(f"{cls.__name__}: no state handles {signal}, so it needs no other name")
            cls._handlers[names] = {
                state.name: {
                    fabric.signal_number_of(OWN_EVENTS.get(signal) or signal_names.get(signal, signal)): contained(
                        _by_name(state.handler_of(signal)), state.name, targets
                    )
                    for signal, targets in state.on.items()
                }
                for state in cls.STATES
            }
        return cls._handlers[names]

    def create(self, state: str) -> Any:
        """A new state's blueprint; its parent is the top until `nest` says otherwise."""
        blueprint = self.states[state] = self.StateMethodBlueprint(state, self, state_method(state))
        self._parents[state] = self.top
        return blueprint

    def nest(self, state: Any, parent: Any) -> StatesFactory:
        """Put `state` inside `parent` (None: the top); both are state methods or names."""
        super().nest(self.state_method(state), None if parent is None else self.state_method(parent))
        return self

    def trans(self, fn: Any) -> int:
        """For handlers: `return self.trans(state)`; `state` is a state method or a name."""
        status: int = super().trans(self.state_method(fn))
        return status

    def register_signal_callback(self, state_method: Any, signal: int | str, fn: Handler) -> None:
        """Have `fn` handle a signal, given by number or name, in a state; `catch` calls this."""
        number = fabric.signal_number_of(signal) if isinstance(signal, str) else signal
        name = state_method.__name__
        # A copy: the other charts of the class keep theirs.
        self._lookup = {**self._lookup, name: {**self._lookup.get(name, {}), number: contained(fn, name)}}

    def state_method(self, state: Any) -> Any:
        """The state method for a state or its name.  Raises ChartError if there is none."""
        if isinstance(state, str) and state in self.states:
            return self.states[state].state_method
        if not callable(state):
            raise ChartError(f"chart {self.name} has no state {state!r}; create(state=...) it first")
        return state

    class StateMethodBlueprint(Factory.StateMethodBlueprint):  # type: ignore[misc]
        """One state of one chart."""

        __slots__ = ("ao", "name", "state_method")

        def __init__(self, name: str, ao: Any, state_method: StateMethod) -> None:
            self.name, self.ao, self.state_method = name, ao, state_method


def _by_name(method: str) -> Handler:
    def handler(chart: Any, e: Event) -> Any:
        return getattr(chart, method)(e)

    handler.__name__ = method
    return handler
