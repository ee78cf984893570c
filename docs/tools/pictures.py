"""Draws the pictures of the pages: who tells whom what, and what the benchmarks' last tables say.

python docs/tools/pictures.py          draw them
python docs/tools/pictures.py --check  exit 1 if one is out of date

Like the pictures of the charts they stand on a light card of their own, and every element has a class, so that the site
gives them the colours of its theme.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "_static" / "pictures"
TABLES = ROOT / "benchmarks" / "README.md"
FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
#: About the width of a character of that font, as a part of its size.
CHARACTER = 0.56


class Step(NamedTuple):
    """A message between two of the participants, or, with `to` None, what one does by itself."""

    by: int
    to: int | None
    words: str


class Told(NamedTuple):
    """Who tells whom what, from top to bottom; `groups` say which participants stand on one host."""

    title: str
    participants: Sequence[str]
    steps: Sequence[Step]
    groups: Sequence[tuple[int, int, str]] = ()


ONE_WRITE = Told(
    "One write through two hosts",
    ("a program", "cache file", "CacheNode", "RabbitMQ", "CacheNode", "cache file", "other programs"),
    (
        Step(0, 1, "CACHE_FILE_WRITE"),
        Step(1, None, "lock, stamp, replace, fsync"),
        Step(1, 0, "CACHE"),
        Step(1, 2, "CACHE"),
        Step(2, 3, "sealed, once"),
        Step(3, 4, "to every host"),
        Step(4, None, "open, check"),
        Step(4, 5, "merge"),
        Step(5, 6, "CACHE"),
    ),
    ((0, 2, "host a"), (4, 6, "host b")),
)
WRITE_HERE = Told(
    "A program of this host writes",
    ("program", "CacheFileChart", "subscribers", "CacheNode", "RabbitMQ"),
    (
        Step(0, 1, "CACHE_FILE_WRITE"),
        Step(1, None, "lock, stamp, replace, fsync"),
        Step(1, 2, "CACHE"),
        Step(1, 3, "CACHE"),
        Step(3, None, "seal"),
        Step(3, 4, "CACHE, to every other host"),
    ),
)
WRITE_ELSEWHERE = Told(
    "Another host has written",
    ("RabbitMQ", "CacheNode", "CacheFileChart", "subscribers"),
    (
        Step(0, 1, "CACHE"),
        Step(1, None, "size, key, size, parse, version, place"),
        Step(1, 2, "CACHE_FILE_WRITE"),
        Step(2, None, "lock, merge, replace, fsync"),
        Step(2, 3, "CACHE"),
    ),
)
A_JOIN = Told(
    "A host joins",
    ("new host", "request queue", "one peer", "every host"),
    (
        Step(0, None, "binds its queue, so that it misses nothing"),
        Step(0, 1, "CACHE_FILE_READ"),
        Step(1, 2, "to one of those in step"),
        Step(2, 0, "its document, to the asker alone"),
        Step(0, None, "merge, replace, fsync: in step"),
        Step(0, 3, "what only it had, if anything"),
    ),
)
SEQUENCES = {"one-write": ONE_WRITE, "write-here": WRITE_HERE, "write-elsewhere": WRITE_ELSEWHERE, "a-join": A_JOIN}


def sequence_svg(drawn: Told) -> str:
    """The sequence as an SVG."""
    column = max(132, 10 + int(max(map(_needed, drawn.steps))))
    top, line = (58 if drawn.groups else 40), 36
    width, height = column * len(drawn.participants), top + 34 + line * len(drawn.steps)

    def x(number: int) -> float:
        return column * (number + 0.5)

    parts = []
    for first, last, words in drawn.groups:
        box = f'x="{column * first + 4}" y="4" width="{column * (last - first + 1) - 8}" height="{height - 8}"'
        parts.append(f'<rect class="group" {box} rx="10" fill="#f3f6fb" stroke="#d5dbe6"/>')
        parts.append(_text(column * first + 16, 22, words, "soft", "start"))
    for number, name in enumerate(drawn.participants):
        parts.append(f'<line class="life" x1="{x(number)}" x2="{x(number)}" y1="{top}" y2="{height - 12}" {_STROKE}/>')
        box = f'x="{x(number) - 58}" y="{top - 26}" width="116" height="28"'
        parts.append(f'<rect class="who" {box} rx="7" fill="#e6edf7" stroke="#8a94a6"/>')
        parts.append(_text(x(number), top - 8, name, "name"))
    for row, step in enumerate(drawn.steps):
        parts += _step(step, x, top + 30 + line * row)
    return _svg(drawn.title, width, height, parts)


_STROKE = 'stroke="#b9c2d0" stroke-width="1.4"'


def _needed(step: Step) -> float:
    """The width of a column in which its words fit."""
    return len(step.words) * 11 * CHARACTER / (max(1, abs(step.by - step.to)) if step.to is not None else 1.35)


def _step(step: Step, x: Callable[[int], float], y: float) -> Iterable[str]:
    if step.to is None:
        half = len(step.words) * 11 * CHARACTER / 2 + 8
        middle = max(x(step.by), half + 10)
        box = f'x="{middle - half:.0f}" y="{y - 14}" width="{2 * half:.0f}" height="22"'
        yield f'<rect class="does" {box} rx="6" fill="#fffdf5" stroke="#b9a76a"/>'
        yield _text(middle, y + 1, step.words)
        return
    way = 1 if step.to > step.by else -1
    end = x(step.to)
    ends = f'x1="{x(step.by)}" x2="{end - 7 * way}" y1="{y}" y2="{y}"'
    yield f'<line class="way" {ends} stroke="#4a6fa5" stroke-width="1.8"/>'
    yield f'<path class="tip" d="M{end},{y} l{-9 * way},-4.5 v9 z" fill="#4a6fa5"/>'
    yield _text((x(step.by) + end) / 2, y - 6, step.words, "words")


# --- plots --------------------------------------------------------------------------------------------


class Bar(NamedTuple):
    words: str
    number: float
    ours: bool


class Plot(NamedTuple):
    """Rows of the benchmarks' tables whose first cell begins with `row`, each against another program."""

    title: str
    row: str
    unit: str
    more_is_better: bool


PLOTS = {
    "reads": Plot(
        "Reads a second, 100 processes, 5 % of them writes", "reads/s, 100 processes, 5 % writes", "/s", True
    ),
    "write-p99": Plot(
        "Slowest write of a hundred, 1000 processes now and then", "write p99, 1000 processes now and then", "ms", False
    ),
    "start": Plot(
        "1000 programs start at once: until all are served", "1000 start at once, until all are served", "s", False
    ),
}
_NAMES = {"mode bit": "mode bit (the original)"}


def bars_of(plot: Plot, tables: str) -> list[Bar]:
    """Ours and the others', the best first."""
    found = re.findall(rf"^\| {re.escape(plot.row)} \(against ([^)]*)\) \| ([^|]*) \| ([^|]*) \|", tables, re.M)
    if not found:
        raise SystemExit(f"benchmarks/README.md has no row that begins with {plot.row!r}")
    others = [Bar(_NAMES.get(name, name), _number(reference), False) for name, _, reference in found]
    return sorted(
        [Bar("miros-cache-net", _number(found[0][1]), True), *others],
        key=lambda bar: bar.number,
        reverse=plot.more_is_better,
    )


def plot_svg(plot: Plot, tables: str) -> str:
    """The rows as horizontal bars."""
    bars = bars_of(plot, tables)
    most = max(bar.number for bar in bars)
    left, full, line = 170, 330, 30
    parts = [_text(14, 26, plot.title, "name", "start")]
    for row, bar in enumerate(bars):
        y = 44 + row * line
        kind, colour = ("bar ours", "#2f5f9e") if bar.ours else ("bar", "#b9c8de")
        length = max(2.0, full * bar.number / most)
        parts.append(_text(left - 10, y + 14, bar.words, "name" if bar.ours else "words", "end"))
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="20" rx="3" fill="{colour}"/>'
        )
        parts.append(_text(left + length + 8, y + 14, _shown(bar.number, plot.unit), "words", "start"))
    better = "more is better" if plot.more_is_better else "less is better"
    parts.append(
        _text(left, 62 + len(bars) * line, f"{better}; from the last table in benchmarks/README.md", "soft", "start")
    )
    return _svg(plot.title, left + full + 110, 76 + len(bars) * line, parts)


def _number(cell: str) -> float:
    return float(cell.split(maxsplit=1)[0])


def _shown(number: float, unit: str) -> str:
    return f"{number:,.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"


# --- both ---------------------------------------------------------------------------------------------


def _text(x: float, y: float, words: str, kind: str = "words", anchor: str = "middle") -> str:
    looks = {"name": 'font-weight="bold" font-size="12"', "soft": 'fill="#56627a" font-size="11"'}
    fill = looks.get(kind, 'font-size="11"')
    colour = "" if "fill=" in fill else ' fill="#1b2430"'
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {fill}{colour}>{escape(words)}</text>'


def _svg(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    size = f'width="{width - 1}" height="{height - 1}"'
    frame = f'<rect class="card" x="0.5" y="0.5" {size} rx="10" fill="#ffffff" stroke="#d5dbe6"/>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawn" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="{FONT}">'
    )
    return "\n".join([head, f"<title>{escape(title)}</title>", frame, *parts, "</svg>", ""])


def pictures() -> dict[str, str]:
    """Every picture by its file's name."""
    tables = TABLES.read_text(encoding="utf-8")
    return {
        **{f"{name}.svg": sequence_svg(drawn) for name, drawn in SEQUENCES.items()},
        **{f"{name}.svg": plot_svg(plot, tables) for name, plot in PLOTS.items()},
    }


def main() -> int:
    PICTURES.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, text in pictures().items():
        path = PICTURES / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"out of date: {', '.join(stale)}; run: python docs/tools/pictures.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
