"""How `top` looks: a row a node, what is wrong, the last changes; or one node, or two documents side by side.

Texts from the network are escaped and never taken for markup.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from miros_cache_net.cli import node_text
from miros_cache_net.cli.cache_file import count_text
from miros_cache_net.cli.checks.finding import FAILED, Finding
from miros_cache_net.cli.checks.mends import mend_of
from miros_cache_net.cli.exits import printable
from miros_cache_net.cli.output import duration_text
from miros_cache_net.cli.top.fleet import Change, Picture, Row
from miros_cache_net.document.value import Document
from miros_cache_net.node_status import IN_STEP, NodeStatus

#: A value in the comparison of two documents is cut to this length.
_VALUE: Final = 60
#: Fields of a status that a node's page shows in another form, or that its other fields say too.
_OWN_LINE: Final = ("node", "keys", "checks", "counters", "connected", "expired", "clock_ms")
_ENDLESS: Final = 10_000
#: Lines that are kept for the last changes however much is wrong, their title included.
_CHANGES_LEAST: Final = 4
_STATE_STYLES: Final = {IN_STEP: "green"}


class _Column(NamedTuple):
    """A column of the table; `from_width`: the narrowest screen that shows it."""

    title: str
    from_width: int
    cell: Callable[[NodeStatus, Sequence[NodeStatus]], str]


_COLUMNS: Final = (
    _Column("node", 0, lambda node, _: node_text.name_text(node)),
    _Column("state", 0, lambda node, _: node_text.state_text(node)),
    _Column("document", 0, lambda node, _: node_text.document_text(node)),
    _Column("age", 0, lambda node, _: node_text.age_text(node)),
    _Column("expires", 90, lambda node, _: node_text.expiry_text(node)),
    _Column("clock", 0, lambda node, _: "" if node["ahead_s"] is None else f"{node['ahead_s']:+.1f} s"),
    _Column("lag", 0, node_text.lag_text),
    _Column("version", 90, lambda node, _: node["release"]),
    _Column("up", 90, lambda node, _: node_text.uptime_text(node)),
    _Column("broker", 130, lambda node, _: node["broker"]),
)


class View(NamedTuple):
    """What the user has chosen to see.

    selected  index of a row among those shown
    marked    a node to compare with, "" for none
    filter    only nodes that contain it are shown
    typing    the filter is being typed
    page      "fleet", "node" or "diff"
    note      one line for the user
    """

    selected: int = 0
    marked: str = ""
    filter: str = ""
    typing: bool = False
    page: str = "fleet"
    note: str = ""


def shown_rows(picture: Picture, view: View) -> list[Row]:
    """The rows that the filter leaves."""
    word = view.filter.lower()
    return [row for row in picture.rows if word in _searched(row.status)]


def fleet_page(picture: Picture, view: View | None, width: int, height: int) -> RenderableType:
    """The table, what is wrong, the last changes; `view` None: for a pipe, everything, and no keys."""
    rows = picture.rows if view is None else shown_rows(picture, view)
    left = _ENDLESS if view is None else max(6, height - 6)
    first = 0 if view is None else max(0, view.selected + 1 - max(1, left // 2))
    table = _table(rows[first : first + max(1, left // 2)], [row.status for row in picture.rows], view, first, width)
    left -= min(len(rows), max(1, left // 2))
    wrong = _fitting(list(_wrong_lines(picture.wrong)), left - (_CHANGES_LEAST if picture.changes else 0), width)
    left -= sum(_height(line, width) for line in wrong)
    parts: list[RenderableType] = [Text(_headline(picture, rows), style="bold"), table, Text("")]
    parts += [*wrong, Text("")] if wrong else []
    if picture.changes and left > 1:
        parts += [Text("last changes", style="bold"), *(_change_line(each) for each in picture.changes[: left - 1])]
    return Group(*parts) if view is None else Group(*parts, _keys_line(view))


def node_page(row: Row, view: View) -> RenderableType:
    """One node, whole: what is wrong first, then everything that it says of itself."""
    node = row.status
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for check in (check for check in node["checks"] if not check["ok"]):
        table.add_row("FAILED", Text(printable(f"{check['name']}: {check['detail']}"), style="red"))
        table.add_row("fix", Text(mend_of(check["name"]), style="cyan"))
    facts = {name: _plain(value) for name, value in node.items() if name not in _OWN_LINE}
    facts["keys"] = " ".join(node["keys"])
    facts["well"] = ", ".join(check["name"] for check in node["checks"] if check["ok"])
    facts["counters"] = ", ".join(f"{name} {number}" for name, number in node["counters"].items() if number)
    for name, text in facts.items():
        if text:
            table.add_row(name, Text(printable(text)))
    return Group(Text(printable(node_text.name_text(node)), style="bold"), table, _keys_line(view))


def diff_page(names: tuple[str, str], documents: dict[str, Document] | None, view: View) -> RenderableType:
    """Where two documents differ: keys, and what each node holds there."""
    one, other = names
    title = Text(printable(f"{one} | {other}"), style="bold")
    if documents is None:
        return Group(title, Text("asking both ..."), _keys_line(view))
    silent = [name for name in names if name not in documents]
    if silent:
        return Group(title, Text(printable(f"no document from {', '.join(silent)}"), style="red"), _keys_line(view))
    table = Table(box=None, pad_edge=False)
    for column in ("key", *names):
        table.add_column(Text(printable(column)), overflow="fold")
    count = 0
    for key, mine, theirs in _differences(documents[one], documents[other]):
        count += 1
        table.add_row(*(Text(printable(each)) for each in (key, mine, theirs)))
    what = f"{count_text(count, 'key')} differ" if count else "the same contents"
    return Group(title, Text(what), table, _keys_line(view))


def console_for(is_terminal: bool) -> Console:
    """A console that takes no text for markup; in a pipe as wide as it needs to be."""
    return Console(width=None if is_terminal else 240, markup=False, highlight=False, soft_wrap=False)


# --- the parts of a page ------------------------------------------------------------------------------


def _table(rows: Sequence[Row], nodes: Sequence[NodeStatus], view: View | None, first: int, width: int) -> Table:
    columns = [column for column in _COLUMNS if column.from_width <= width]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.title, no_wrap=True, overflow="ellipsis", ratio=None)
    for number, row in enumerate(rows, first):
        style = "reverse" if view is not None and number == view.selected else ""
        cells = [printable(column.cell(row.status, nodes)) for column in columns]
        if view is not None and row.status["node"] == view.marked:
            cells[0] = f"*{cells[0]}"
        if row.is_silent:
            cells[1] = "silent"
        table.add_row(*(Text(cell, style=_cell_style(row, at)) for at, cell in enumerate(cells)), style=style)
    return table


def _cell_style(row: Row, column: int) -> str:
    node = row.status
    if row.is_silent or (column == 0 and node["trouble"]):
        return "red"
    return _STATE_STYLES.get(node_text.state_text(node), "red") if column == 1 else ""


def _headline(picture: Picture, rows: Sequence[Row]) -> str:
    if not picture.asked:
        return "asking the fleet ..."
    answering = [row for row in rows if not row.is_silent]
    documents = {row.status["version"] for row in answering}
    agree = "the same document" if len(documents) == 1 else f"{len(documents)} different documents"
    filtered = "" if len(rows) == len(picture.rows) else f" of {len(picture.rows)}"
    told = f", {agree}" if answering else ", none answers"
    return f"{count_text(len(rows), 'node')}{filtered}{told}   {time.strftime('%H:%M:%S')}"


def _wrong_lines(wrong: Sequence[Finding]) -> Iterator[Text]:
    for finding in sorted(wrong, key=lambda each: each.outcome != FAILED):
        style = "red" if finding.outcome == FAILED else "yellow"
        yield Text(printable(f"{finding.check}: {finding.detail}"), style=style)
        yield Text(printable(f"  fix: {finding.fix}"), style="cyan")


def _fitting(lines: list[Text], most: int, width: int) -> list[Text]:
    """The first lines, in pairs, and how many more there are; at least one pair."""
    kept, used = 0, 0
    while kept < len(lines):
        used += sum(_height(line, width) for line in lines[kept : kept + 2])
        if kept and used > most - 1:
            more = (len(lines) - kept) // 2
            return [*lines[:kept], Text(f"... and {more} more: `miros-cache-net doctor`", style="red")]
        kept += 2
    return lines


def _height(line: Text, width: int) -> int:
    return max(1, -(-line.cell_len // max(1, width - 8)))


def _change_line(change: Change) -> Text:
    at = time.strftime("%H:%M:%S", time.localtime(change.at_s))
    return Text(f"{at}  {printable(change.node)}  {printable(change.what)}", no_wrap=True, overflow="ellipsis")


def _keys_line(view: View) -> Text:
    if view.typing:
        return Text(printable(f"/{view.filter}_   enter: keep, escape: all"), style="reverse")
    if view.page != "fleet":
        return Text("escape: back   q: quit", style="dim")
    keys = "enter: node  t: trace  space, d: diff  /: filter  q: quit"
    return Text(printable(view.note), style="yellow") if view.note else Text(keys, style="dim")


def _searched(node: NodeStatus) -> str:
    return " ".join(
        (node["node"], node["host"], node["state"], node["broker"], node["trouble"], node["release"])
    ).lower()


def _differences(one: Document, other: Document) -> Iterator[tuple[str, str, str]]:
    for key in sorted({*one.contents, *other.contents}):
        mine, theirs = (_value(each, key) for each in (one, other))
        if mine != theirs:
            yield key, mine[:_VALUE], theirs[:_VALUE]


def _value(document: Document, key: str) -> str:
    return json.dumps(document.contents[key], default=dict, ensure_ascii=False) if key in document.contents else "-"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f} ({duration_text(abs(value))})"
    return "" if value is None else str(value)
