"""Timing, and tables with ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """One line of the table.

    ours, reference  in `unit`; `better`: whether the ratio should be small ("<=") or large (">="), or is only told
    """

    what: str
    ours: float
    reference: float
    unit: str
    target: str = ""
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.reference if self.reference else float("inf")

    @property
    def verdict(self) -> str:
        if not self.target:
            return ""
        sign, bound = self.target.split()
        met = self.ratio <= float(bound) if sign == "<=" else self.ratio >= float(bound)
        return "yes" if met else "NO"


def best_us(function: Callable[[], Any], times: int) -> float:
    """The fastest of so many calls, in microseconds: what a busy machine disturbs least."""
    best = 1 << 62
    for _ in range(times):
        began = time.perf_counter_ns()
        function()
        best = min(best, time.perf_counter_ns() - began)
    return best / 1000


def side_by_side_us(functions: Sequence[Callable[[], Any]], times: int) -> list[float]:
    """The median of so many calls of each, taken in turns so that what disturbs one disturbs all."""
    taken: list[list[int]] = [[] for _ in functions]
    for _ in range(times):
        for function, times_ns in zip(functions, taken, strict=True):
            began = time.perf_counter_ns()
            function()
            times_ns.append(time.perf_counter_ns() - began)
    return [sorted(times_ns)[len(times_ns) // 2] / 1000 for times_ns in taken]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def table(lines: Sequence[Line]) -> str:
    """A table in Markdown."""
    rows = ["| what | ours | reference | ratio | target | met |", "| --- | ---: | ---: | ---: | --- | --- |"]
    for line in lines:
        what = f"{line.what} ({line.note})" if line.note else line.what
        cells = [what, f"{line.ours:.4g} {line.unit}", f"{line.reference:.4g} {line.unit}", f"{line.ratio:.2f}"]
        rows.append(f"| {' | '.join([*cells, line.target, line.verdict])} |")
    return "\n".join(rows)
