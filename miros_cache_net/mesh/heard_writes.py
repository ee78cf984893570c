"""Writes from the old mesh, on their way into the file of every host of the fleet.

A write is acknowledged to the broker only when the fleet has it: until then the broker passes it to another host if
this one is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from miros_cache_net import limits
from miros_cache_net.document.value import Document
from miros_cache_net.store.changes import Change
from miros_cache_net.wire.token_window import Mark


class WritesPort(Protocol):
    """The node, as used by heard writes."""

    def write(self, change: Change, over: Callable[[Exception | None], None]) -> None:
        """Store a local write; `over` is called on any thread once it is on disk, or with its error."""

    def held(self) -> Document | None:
        """The file's document; None if it cannot be read."""


@dataclass
class HeardWrite:
    """One write.

    stored  a document of this host's file that contains it, None while there is none, or it cannot be read
    failed  the file has refused it for good
    """

    mark: Mark
    taken: Callable[[], None]
    stored: Document | None = None
    failed: bool = False


class HeardWrites:
    """Call all methods on one thread.

    has_spread  tells whether the fleet has all of a document, or cannot get it over this link
    stored      called on any thread with a write and the error that kept it out of the file, None if it is stored
    """

    def __init__(
        self,
        port: WritesPort,
        has_spread: Callable[[Document], bool],
        stored: Callable[[HeardWrite, Exception | None], None],
    ) -> None:
        self._port, self._has_spread, self._stored = port, has_spread, stored
        self._pending: list[HeardWrite] = []
        self._spreading: list[HeardWrite] = []
        self._marks: dict[Mark, None] = {}

    @property
    def pending(self) -> bool:
        """Whether a write is on its way into the file."""
        return bool(self._pending)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The newest writes that the fleet has."""
        return tuple(self._marks)

    def know(self, marks: Iterable[Mark]) -> None:
        """Record that the fleet has these writes, whichever host heard them."""
        self._marks.update(dict.fromkeys(marks))
        while len(self._marks) > limits.MESH_MARKS:
            del self._marks[next(iter(self._marks))]

    def put(self, change: Change, mark: Mark, taken: Callable[[], None]) -> None:
        """Store a write; `taken` acknowledges it to the broker."""
        write = HeardWrite(mark, taken)
        self._pending.append(write)
        self._port.write(change, lambda error: self._stored(write, error))

    def over(self, write: HeardWrite, error: Exception | None) -> None:
        """Record that the file has the write, or has refused it for good."""
        self._pending.remove(write)
        write.failed = error is not None
        write.stored = None if write.failed else self._port.held()
        self._spreading.append(write)

    def spread(self) -> list[HeardWrite]:
        """The writes that the whole fleet has got since the last call; the caller acknowledges them."""
        done = [write for write in self._spreading if write.failed or self._fleet_has(write)]
        self._spreading = [write for write in self._spreading if write not in done]
        self.know(write.mark for write in done)
        return done

    def _fleet_has(self, write: HeardWrite) -> bool:
        write.stored = write.stored or self._port.held()
        return write.stored is not None and self._has_spread(write.stored)
