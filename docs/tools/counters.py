"""Writes the table of `docs/reference/counters.md` from `observe.families`: `python docs/tools/counters.py`."""

from __future__ import annotations

from pathlib import Path

from miros_cache_net.observe.families import FAMILIES, Family

PAGE = Path(__file__).parents[1] / "reference" / "counters.md"
HEAD = "| name | labels | kind | counts |\n| --- | --- | --- | --- |\n"


def row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {labels} | {'gauge' if family.is_gauge else 'counter'} | {family.help} |\n"


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8").partition(HEAD)[0]
    PAGE.write_text(before + HEAD + "".join(map(row, FAMILIES)), encoding="utf-8")
