"""How a chart's states are declared: as with `miros.Factory`, with names where it takes methods, and contained."""

from __future__ import annotations

from miros.hsm import Attribute

from miros_cache_net.errors import ChartError
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.containment import contained
from miros_cache_net.statechart.step import QuickFactory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from miros_cache_net.statechart.containment import Handler


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


class StatesFactory(QuickFactory):
    """A `Factory` that takes states by name and contains what their handlers do wrong."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        #: `self.state(name, parent=None, SIGNAL=handler, ...)` declares a state and returns its method.
        self.state = _Declaration(self)

    def create(self, state: str | None = None) -> Any:
        """A new state's blueprint; its parent is the top until `nest` says otherwise."""
        blueprint = super().create(state=state)
        self.register_parent(blueprint.state_method, self.top)
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
        super().register_signal_callback(state_method, number, contained(fn, state_method.__name__))

    def state_method(self, state: Any) -> Any:
        """The method of a state, or of a state's name.  Raises ChartError if there is none."""
        if isinstance(state, str) and state in self.states:
            return self.states[state].state_method
        if not callable(state):
            raise ChartError(f"chart {self.name} has no state {state!r}; create(state=...) it first")
        return state
