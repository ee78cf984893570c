"""What commands print: JSON and tables on standard output, progress on a terminal's standard error."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from miros_cache_net.cli.exits import printable, say

#: How long something may take before the user is told what the command waits for.
PATIENCE_S: Final = 1.0
_DIVISIONS: Final = ((86_400, "day"), (3_600, "h"), (60, "min"))
#: Characters that a terminal may interpret and `json.dumps` leaves as they are; JSON can also write them as escapes.
_CONTROLS: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def print_json(value: Any, *, pretty: bool = False) -> None:
    """Print one JSON value: on one line for machines, or indented for people.  Infinite and NaN numbers become null."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    print(json_line(value, ascii_only=not encoding.lower().startswith("utf"), pretty=pretty), flush=True)


def json_line(value: Any, *, ascii_only: bool = True, pretty: bool = False) -> str:
    """One JSON value as text, with what a terminal would interpret escaped; on one line unless `pretty`."""
    text = json.dumps(_finite(value), ensure_ascii=ascii_only, allow_nan=False, indent=2 if pretty else None)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_line(text: str) -> None:
    """Print one line on standard output, with what a terminal would interpret escaped."""
    print(printable(text), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table for people.  In a pipe it is as wide as it needs to be, without colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False, soft_wrap=False).print(table)


def print_fields(title: str, fields: Mapping[str, str]) -> None:
    """Print a title and under it each field that is not empty, for terminals too narrow for a table."""
    print(printable(title))
    indent = max(map(len, fields)) + 4
    width = max(2 * indent, shutil.get_terminal_size().columns)
    for name, text in fields.items():
        for number, line in enumerate(textwrap.wrap(printable(text), width - indent)):
            print(f"  {'' if number else name:{indent - 2}}{line}")
    print(flush=True)


def duration_text(seconds: float) -> str:
    """A duration for people: ``3 s``, ``5 min``, ``2 h``, ``3 days``; below a second ``0 s``."""
    for length_s, unit in _DIVISIONS:
        if seconds >= length_s:
            count = round(seconds / length_s)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{int(seconds)} s"


def on_terminal() -> bool:
    """Whether a person sees standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def told_if_slow(what: str) -> Iterator[None]:
    """Say that `what` is in progress if the block takes longer than `PATIENCE_S`; on a terminal only."""
    timer = threading.Timer(PATIENCE_S, say, (f"{what} ...",))
    timer.daemon = True
    if on_terminal():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Count up to `total` on a terminal's standard error; call what is yielded with the name of each one done."""
    if not on_terminal():
        yield lambda _name: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, last="")
        yield lambda name: progress.update(task, advance=1, last=escape(printable(name)))


@contextlib.contextmanager
def measuring() -> Iterator[Callable[[str, int, int], None]]:
    """Show progress on a terminal's standard error.

    Call what is yielded with what is being done, how many are done, and the total; a new "what" starts a new count.
    """
    if not on_terminal():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


_STYLES: Final = {"yes": "green", "ok": "green", "no": "red", "FAILED": "bold red", "warning": "yellow", "fix:": "cyan"}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
