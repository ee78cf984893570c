"""A statechart as the values that are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DrawnState:
    """One state.

    parent   the state around it; None: the chart itself
    entry    whether something is done on entry
    exit     whether something is done on exit
    hooks    signals that are handled without a transition
    initial  the states that its own initial transition may go to
    """

    name: str
    parent: str | None = None
    entry: bool = False
    exit: bool = False
    hooks: tuple[str, ...] = ()
    initial: tuple[str, ...] = ()

    def actions(self) -> list[str]:
        """What happens inside the state, a line each, as UML writes it."""
        own = [name for name, done in (("entry", self.entry), ("exit", self.exit)) if done]
        return [f"{name} /" for name in (*own, *self.hooks)]


@dataclass(frozen=True)
class Arrow:
    """The transitions from one state to another, by their signals."""

    source: str
    target: str
    signals: tuple[str, ...]


@dataclass(frozen=True)
class Diagram:
    """A whole chart.

    states  each after its parent
    start   the state in which the chart starts; None: unknown
    note    what a reader must know about the picture, for instance that it shows only what was seen
    """

    name: str
    states: tuple[DrawnState, ...]
    arrows: tuple[Arrow, ...]
    start: str | None = None
    note: str = ""
    _by_name: dict[str, DrawnState] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {state.name: state for state in self.states})

    def inside(self, parent: str | None) -> list[DrawnState]:
        """The states directly inside `parent` (None: the outermost)."""
        return [state for state in self.states if state.parent == parent]

    def is_composite(self, name: str) -> bool:
        """Whether there are states inside it."""
        return any(state.parent == name for state in self.states)

    def around(self, name: str) -> Iterator[str]:
        """The state itself, then the states around it, outwards."""
        at: str | None = name
        while at is not None:
            yield at
            at = self._by_name[at].parent

    def is_final(self, name: str) -> bool:
        """Whether nothing leads out of it any more: neither an arrow of its own, nor one of a state around it."""
        outer = set(self.around(name))
        return (
            not self.note
            and bool(self.arrows)
            and not self.is_composite(name)
            and not any(a.source in outer for a in self.arrows)
        )


def gathered(transitions: Iterator[tuple[str, str, str]]) -> tuple[Arrow, ...]:
    """Transitions `(source, signal, target)` as arrows: one for each pair of states, in the order of the first."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for source, signal, target in transitions:
        found.setdefault((source, target), {})[signal] = None
    return tuple(Arrow(source, target, tuple(signals)) for (source, target), signals in found.items())
