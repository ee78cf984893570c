"""How often the lines of a laid-out diagram cross."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from typing import Final

Point = tuple[float, float]
_NUMBER: Final = re.compile(r"-?[\d.]+(?:e-?\d+)?")
#: Each cubic curve counts as so many straight pieces.
_PIECES: Final = 8


def crossings(paths: Iterable[str]) -> int:
    """The number of pairs of paths (the `d` of an SVG path, one move and cubic curves) that cross."""
    lines = [_line(path) for path in paths]
    return sum(_cross(one, two) for one, two in combinations(lines, 2))


def _line(path: str) -> list[Point]:
    numbers = [float(number) for number in _NUMBER.findall(path)]
    points = list(zip(numbers[::2], numbers[1::2], strict=False))
    line = points[:1]
    for start in range(0, len(points) - 3, 3):
        a, b, c, d = points[start : start + 4]
        for step in range(1, _PIECES + 1):
            t = step / _PIECES
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            line.append(_mean(weights, (a, b, c, d)))
    return line


def _mean(weights: Sequence[float], points: Sequence[Point]) -> Point:
    x, y = (sum(w * point[axis] for w, point in zip(weights, points, strict=True)) for axis in (0, 1))
    return x, y


def _cross(one: list[Point], two: list[Point]) -> bool:
    return any(_meet(a, b, c, d) for a, b in pairwise(one) for c, d in pairwise(two))


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    return _side(a, b, c) != _side(a, b, d) and _side(c, d, a) != _side(c, d, b)


def _side(a: Point, b: Point, c: Point) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])
