"""The numbers of one node, or of the parts of a process that belong to no node.

Each node has its own registry, so the numbers of several nodes in a process stay apart, need no filter, and end with
their node.  Parts that belong to no node (scouts, charts, a file that only a `Cache` uses) count into `PROCESS`.
"""

from __future__ import annotations

from collections import Counter as Tally
from threading import get_ident

from miros_cache_net.observe.families import Family

TYPE_CHECKING = False  # importing typing takes longer than a reader's whole run
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, NamedTuple
else:
    from miros_cache_net.named_tuple import NamedTuple


class Counter:
    """A number that only grows.  `add` takes no lock: each thread has its own cell."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        # by thread id; a new thread with the id of one that has ended continues its cell
        self._cells: dict[int, int] = {}

    def add(self, number: int = 1) -> None:
        """Add `number`; from any thread."""
        me = get_ident()
        self._cells[me] = self._cells.get(me, 0) + number

    @property
    def value(self) -> int:
        """The number so far."""
        return sum(list(self._cells.values()))


class Sample(NamedTuple):
    """One number of a registry: its family, the values of the family's labels, and the number now."""

    family: Family
    values: tuple[str, ...]
    number: int


class Registry:
    """The counters and gauges of one owner.  Thread-safe.

    Label values must come from a fixed list, never from outside: each costs memory for the life of the registry.
    """

    def __init__(self) -> None:
        self._readers: dict[tuple[Family, tuple[str, ...]], Counter | Callable[[], int]] = {}

    def counter(self, family: Family, *values: str) -> Counter:
        """The counter of `family` for these values of its labels; the same one each time."""
        key = (_fitting(family, values), values)
        found = self._readers.get(key)
        if not isinstance(found, Counter):
            # one atomic step, because two threads may want the same new one at once
            found = self._readers.setdefault(key, Counter())
            assert isinstance(found, Counter)
        return found

    def labelled(self, family: Family, *first: str) -> Labelled:
        """The counters of `family` by the value of its last label; `first`: the values of its other labels."""
        return Labelled(self, family, first)

    def gauge(self, family: Family, read: Callable[[], int], *values: str) -> None:
        """Get this number from `read()` when it is needed; `read` must be fast and thread-safe.  The last call wins."""
        self._readers[_fitting(family, values), values] = read

    def forget(self, family: Family) -> None:
        """Drop all numbers of `family`, because what it counted no longer exists."""
        for key in [key for key in list(self._readers) if key[0] is family]:
            self._readers.pop(key, None)

    def samples(self) -> list[Sample]:
        """All current numbers, by family in the table's order, then by label."""
        found = [Sample(*key, _number(reader)) for key, reader in list(self._readers.items())]
        return sorted(found, key=lambda each: (each.family.place, each.values))

    def flat(self) -> dict[str, int]:
        """All numbers by their names in ``status --json``: a family's name, then the values of its labels."""
        return {"_".join((each.family.name, *each.values)): each.number for each in self.samples()}


class Labelled:
    """Counters of one family in a registry, by the value of its last label."""

    __slots__ = ("_counters", "_family", "_first", "_registry")

    def __init__(self, registry: Registry, family: Family, first: tuple[str, ...]) -> None:
        self._registry, self._family, self._first = registry, family, first
        self._counters: dict[str, Counter] = {}

    def add(self, value: str, number: int = 1) -> None:
        """Add `number` for `value`; from any thread."""
        counter = self._counters.get(value)
        if counter is None:
            counter = self._counters[value] = self._registry.counter(self._family, *self._first, value)
        counter.add(number)

    def counts(self) -> Tally[str]:
        """The numbers so far, by value; a copy."""
        return Tally({value: counter.value for value, counter in list(self._counters.items())})


def _fitting(family: Family, values: tuple[str, ...]) -> Family:
    if len(values) != len(family.labels):
        raise ValueError(f"{family.name} has {len(family.labels)} labels, not {len(values)}")
    return family


def _number(reader: Counter | Callable[[], int]) -> int:
    return reader.value if isinstance(reader, Counter) else reader()


#: The numbers that belong to no node of this process.
PROCESS: Final = Registry()
