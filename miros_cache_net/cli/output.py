"""What commands print: JSON and tables on standard output, progress on a terminal's standard error."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import click

from miros_cache_net.cli.exits import printable, say

#: How long something may take before a person is told what is being waited for.
PATIENCE_S: Final = 1.0
_DIVISIONS: Final = ((86_400, "day"), (3_600, "h"), (60, "min"))
#: What terminals may obey and JSON leaves as it is; JSON knows it by its escape as well.
_CONTROLS: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def print_json(value: Any, *, pretty: bool = False) -> None:
    """One JSON value: on one line for machines, or indented for people.  Infinite numbers become null."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    text = json.dumps(
        _finite(value),
        ensure_ascii=not encoding.lower().startswith("utf"),
        allow_nan=False,
        indent=2 if pretty else None,
    )
    click.echo(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for people.  In a pipe it is as wide as it needs to be, without colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False, soft_wrap=False).print(table)


def duration_text(seconds: float) -> str:
    """A length of time for people: ``3 s``, ``5 min``, ``2 h``, ``3 days``; below a second ``0 s``."""
    for length_s, unit in _DIVISIONS:
        if seconds >= length_s:
            count = round(seconds / length_s)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{int(seconds)} s"


def on_terminal() -> bool:
    """A person sees standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def told_if_slow(what: str) -> Iterator[None]:
    """Say `what` is being waited for if the block takes longer than `PATIENCE_S`; on a terminal only."""
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
    """Count up to `total` on a terminal's standard error; what is yielded is called with the name of each one done."""
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
    """Show how far something is on a terminal's standard error.

    What is yielded is called with what is being done, how many are done, and of how many; each new "what" begins anew.
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


_STYLES: Final = {"yes": "green", "ok": "green", "no": "red", "FAILED": "bold red"}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
