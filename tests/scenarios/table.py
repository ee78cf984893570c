"""The table of scenarios, as a person reads it and Markdown has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The property of a test's report that is a row.
PLAYED = "played"
HEAD = ("scenario", "hosts", "writes", "lost", "agreed after", "longest unseen", "`health` said", "all well after")


def lines_of(played: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a scenario below a head; [] of none."""
    if not played:
        return []
    rows = [HEAD, *(_row(each) for each in played)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(cells)} |" for cells in padded]
    return [lines[0], f"| {' | '.join('-' * width for width in widths)} |", *lines[1:]]


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    agreed, unseen, well = (f"{each[name]:.1f} s" for name in ("agreed_s", "unseen_s", "well_s"))
    said = each["said"].replace("|", "/")
    return each["scenario"], each["kind"], f"{each['writes']:,}", str(each["lost"]), agreed, unseen, said, well
