"""A diagram in the language of Graphviz.

A state without states inside is a node; one with states inside is a cluster, whose name and actions stand in a node of
its own: there its transitions to and from the states inside it begin and end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from miros_cache_net.view.diagram.model import Arrow, Diagram, DrawnState

DOWN: Final = "TB"
RIGHT: Final = "LR"
#: One typeface for all text; what has its widths stands behind it, for machines that lack it.
FONT: Final = "Arial"


class Palette(NamedTuple):
    """The colours of a picture by itself: a light card, so that it reads on white and on black."""

    card: str = "#ffffff"
    rim: str = "#8a94a6"
    text: str = "#1b2430"
    soft: str = "#56627a"
    line: str = "#4a6fa5"
    #: States from the outermost inwards; deeper ones look like the last.
    levels: tuple[str, ...] = ("#f3f6fb", "#e6edf7", "#d8e4f4")
    leaf: str = "#fffdf5"


PALETTE: Final = Palette()


def dot_text(diagram: Diagram, direction: str = DOWN) -> str:
    """The diagram as a Graphviz graph.  Every element has a class, by which a style sheet gives it other colours."""
    return "\n".join(_Writer(diagram).lines(direction)) + "\n"


class _Writer:
    def __init__(self, diagram: Diagram) -> None:
        self._diagram = diagram
        self._ids = {state.name: f"s{number}" for number, state in enumerate(diagram.states)}

    def lines(self, direction: str) -> Iterator[str]:
        p = PALETTE
        yield "digraph chart {"
        spacing = "nodesep=0.4 ranksep=0.45"
        yield f'  graph [rankdir={direction} compound=true {spacing} bgcolor=transparent fontname="{FONT}"];'
        yield f'  node [fontname="{FONT}" fontsize=11 fontcolor="{p.text}" color="{p.rim}" penwidth=1.2];'
        yield (
            f'  edge [fontname="{FONT}" fontsize=10 fontcolor="{p.text}" color="{p.line}" penwidth=1.2 '
            "arrowsize=0.75 arrowhead=vee];"
        )
        yield "  subgraph cluster_chart {"
        yield f'    class="card" style="rounded,filled" fillcolor="{p.card}" color="{p.rim}" penwidth=1 margin=14;'
        yield f'    labeljust=l fontsize=13 fontcolor="{p.text}" label=<{self._title()}>;'
        if self._diagram.start in self._ids:
            yield from self._begin("start", "start", self._diagram.start or "", "    ")
        yield from self._states(None, 0, "    ")
        yield "  }"
        for arrow in self._diagram.arrows:
            yield f"  {self._arrow(arrow)}"
        yield "}"

    def _title(self) -> str:
        note = f' <font point-size="10" color="{PALETTE.soft}">  {_html(self._diagram.note)}</font>'
        return f"<b>{_html(self._diagram.name)}</b>{note if self._diagram.note else ''}"

    def _states(self, parent: str | None, level: int, indent: str) -> Iterator[str]:
        for state in self._diagram.inside(parent):
            if self._diagram.is_composite(state.name):
                yield from self._composite(state, level, indent)
            else:
                yield indent + self._leaf(state)

    def _composite(self, state: DrawnState, level: int, indent: str) -> Iterator[str]:
        name, p = self._ids[state.name], PALETTE
        depth = min(level, len(p.levels) - 1)
        yield f"{indent}subgraph cluster_{name} {{"
        yield (
            f'{indent}  class="state level{depth}" id="state-{name}" style="rounded,filled" '
            f'fillcolor="{p.levels[depth]}" color="{p.rim}" penwidth=1.2 margin=12 label="";'
        )
        yield (
            f'{indent}  {name} [class="head" shape=box style="rounded" color="transparent" margin="0.06,0.04" '
            f"label=<{_table(state, 'left')}>];"
        )
        for number, target in enumerate(state.initial):
            if target in self._ids:
                yield from self._begin(f"{name}_begin{number or ''}", "initial", target, indent + "  ")
        yield from self._states(state.name, level + 1, indent + "  ")
        for inner in self._diagram.inside(state.name):  # the name stands before what is inside
            yield f"{indent}  {name} -> {self._ids[inner.name]} [style=invis weight=0];"
        yield f"{indent}}}"

    def _leaf(self, state: DrawnState) -> str:
        final = " peripheries=2" if self._diagram.is_final(state.name) else ""
        kind = "state leaf final" if final else "state leaf"
        return (
            f'{self._ids[state.name]} [class="{kind}" id="state-{self._ids[state.name]}" shape=box '
            f'style="rounded,filled" fillcolor="{PALETTE.leaf}" margin="0.12,0.07"{final} label=<{_table(state)}>];'
        )

    def _begin(self, name: str, kind: str, target: str, indent: str) -> Iterator[str]:
        p = PALETTE
        yield (
            f'{indent}{name} [class="{kind}" shape=circle style=filled fillcolor="{p.text}" color="{p.text}" '
            'width=0.13 fixedsize=true label=""];'
        )
        head = f" lhead=cluster_{self._ids[target]}" if self._diagram.is_composite(target) else ""
        yield f'{indent}{name} -> {self._ids[target]} [class="arrow"{head}];'

    def _arrow(self, arrow: Arrow) -> str:
        source, target = self._ids[arrow.source], self._ids[arrow.target]
        outwards = arrow.target in self._diagram.around(arrow.source)
        ends = []
        if self._diagram.is_composite(arrow.target) and not outwards:
            ends.append(f"lhead=cluster_{target}")
        if self._diagram.is_composite(arrow.source) and arrow.source not in self._diagram.around(arrow.target):
            ends.append(f"{'lhead' if outwards else 'ltail'}=cluster_{source}")
        if outwards:  # told the other way round, so that the outer state's name stays in front
            ends.append("dir=back arrowtail=vee")
        edge = f"{target} -> {source}" if outwards else f"{source} -> {target}"
        label = "".join(f"<tr><td>{_html(signal)}</td></tr>" for signal in arrow.signals)
        table = f'<table border="0" cellspacing="0" cellpadding="1">{label}</table>'
        return f'{edge} [class="arrow" id="arrow-{source}-{target}" label=<{table}> {" ".join(ends)}];'


def _table(state: DrawnState, align: str = "center") -> str:
    rows = [f'<tr><td align="{align}"><b>{_html(state.name)}</b></td></tr>']
    actions = state.actions()
    if actions:
        text = "".join(f'{_html(action)}<br align="left"/>' for action in actions)
        font = f'<font point-size="9.5" color="{PALETTE.soft}">{text}</font>'
        rows += ["<hr/>", f'<tr><td align="left" balign="left">{font}</td></tr>']
    return f'<table border="0" cellborder="0" cellspacing="0" cellpadding="3">{"".join(rows)}</table>'


def _html(text: str) -> str:
    """Names may hold anything: what Graphviz would take for markup is written as what it is."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
