"""A chart's states, built from the data of its class; or declared one by one, as with `miros.Factory`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from miros.activeobject import Factory
from miros.event import Event
from miros.hsm import Attribute

from miros_cache_net.errors import ChartError
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.containment import Handler, contained
from miros_cache_net.statechart.state import OWN_EVENTS, State, check
from miros_cache_net.statechart.state_method import StateMethod, state_method

_Handlers = dict[str, dict[int, Handler]]


class _Declaration(Attribute):  # type: ignore[misc]
    """`miros` keeps the current state in `chart.state.fun`; called, the same object declares a state."""

    def __init__(self, factory: StatesFactory) -> None:
        self._factory = factory

    def __call__(self, name: str, parent: Any = None, **handlers: Handler) -> Any:
        blueprint = self._factory.create(state=name)
        for signal_name, handler in handlers.items():
            blueprint.catch(signal=signal_name, handler=handler)
        self._factory.nest(name, parent=parent)
        return blueprint.to_method()


class StatesFactory(Factory):  # type: ignore[misc]
    """A `Factory` that is built from the `STATES` of its class and contains what their handlers do wrong.

    signal_names  what signals of `STATES` are called in this very chart, where that is known only when it is built
    """

    #: The states, each after the one around it; the chart starts in the first.
    STATES: ClassVar[tuple[State, ...]] = ()
    #: What the charts of a class share: the functions of its states; their handlers, for each choice of names.
    _methods: ClassVar[dict[str, StateMethod]] = {}
    _handlers: ClassVar[dict[tuple[tuple[str, str], ...], _Handlers]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check(cls, cls.STATES)
        cls._methods, cls._handlers = {state.name: state_method(state.name) for state in cls.STATES}, {}

    def __init__(self, name: str, signal_names: Mapping[str, str]) -> None:
        super().__init__(name)
        #: `self.state(name, parent=None, SIGNAL=handler, ...)` declares a state and returns its method.
        self.state = _Declaration(self)
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
        """For handlers: `return self.trans(state)`, a state method or a name."""
        status: int = super().trans(self.state_method(fn))
        return status

    def register_signal_callback(self, state_method: Any, signal: int | str, fn: Handler) -> None:
        """What `catch` calls: in that state, `fn` handles the signal (or the signal of that name)."""
        number = fabric.signal_number_of(signal) if isinstance(signal, str) else signal
        name = state_method.__name__
        # a copy: the other charts of the class go on with theirs
        self._lookup = {**self._lookup, name: {**self._lookup.get(name, {}), number: contained(fn, name)}}

    def state_method(self, state: Any) -> Any:
        """The method of a state, or of a state's name.  Raises ChartError if there is none."""
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
