"""A diagram in the languages that lay out by themselves: Mermaid and PlantUML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from miros_cache_net.view.diagram.model import Diagram, DrawnState

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
#: Words that Mermaid or PlantUML keeps for itself, in any case.
_THEIRS: Final = frozenset(
    ("as", "class", "click", "default", "direction", "end", "hide", "note", "scale", "state", "style", "title")
)


def mermaid_text(diagram: Diagram) -> str:
    """The diagram as a `stateDiagram-v2` of Mermaid, as GitHub shows it."""
    words = _Words(diagram, _for_mermaid, notes=True)
    return "\n".join(["---", f"title: {words.title}", "---", "stateDiagram-v2", *words.body()]) + "\n"


def plantuml_text(diagram: Diagram) -> str:
    """The diagram as a state diagram of PlantUML."""
    words = _Words(diagram, _for_plantuml, notes=False)
    return "\n".join(["@startuml", f"title {words.title}", "hide empty description", *words.body(), "@enduml"]) + "\n"


class _Words:
    """What both languages share.

    notes  whether the actions of a state with others inside go into a note: Mermaid has no other place for them
    """

    def __init__(self, diagram: Diagram, escape: Callable[[str], str], *, notes: bool) -> None:
        self._diagram, self._escape, self._notes = diagram, escape, notes
        self._ids = {state.name: _identity(state.name, number) for number, state in enumerate(diagram.states)}
        self.title = escape(f"{diagram.name} ({diagram.note})" if diagram.note else diagram.name)

    def body(self) -> Iterator[str]:
        if self._diagram.start in self._ids:
            yield f"  [*] --> {self._ids[self._diagram.start or '']}"
        yield from self._states(None, "  ")
        for arrow in self._diagram.arrows:
            signals = self._escape(", ".join(arrow.signals))
            yield f"  {self._ids[arrow.source]} --> {self._ids[arrow.target]} : {signals}"
        for state in self._diagram.states:
            if self._diagram.is_final(state.name):
                yield f"  {self._ids[state.name]} --> [*]"

    def _states(self, parent: str | None, indent: str) -> Iterator[str]:
        for state in self._diagram.inside(parent):
            yield from self._state(state, indent)

    def _state(self, state: DrawnState, indent: str) -> Iterator[str]:
        name = self._ids[state.name]
        declared = (
            f"{indent}state {name}" if name == state.name else f'{indent}state "{self._escape(state.name)}" as {name}'
        )
        if not self._diagram.is_composite(state.name):
            yield declared
        else:
            yield declared + " {"
            yield from (f"{indent}  [*] --> {self._ids[each]}" for each in state.initial if each in self._ids)
            yield from self._states(state.name, indent + "  ")
            yield indent + "}"
        actions = [self._escape(action) for action in state.actions()]
        if actions and self._notes and self._diagram.is_composite(state.name):
            yield from (
                f"{indent}note right of {name}",
                *(f"{indent}  {each}" for each in actions),
                f"{indent}end note",
            )
        else:
            yield from (f"{indent}{name} : {each}" for each in actions)


def _identity(name: str, number: int) -> str:
    return name if _PLAIN.match(name) and name.lower() not in _THEIRS else f"s{number}_"


def _for_mermaid(text: str) -> str:
    return "".join(c if c.isalnum() or c in " _-./,()" else f"#{ord(c)};" for c in _printable(text))


def _for_plantuml(text: str) -> str:
    return "".join(c if c.isalnum() or c in " _-./,()" else f"<U+{ord(c):04X}>" for c in _printable(text))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
