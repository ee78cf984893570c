"""What was written, by whom and when, and whether the document that the fleet ended with can have come of it.

All hosts of a soak share one machine and its clock, so a write's stamp lies between the moments at which it was asked
for and acknowledged, and what of two writes that do not overlap came first is known without looking at stamps.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DELETED: Final = object()
#: Stamps count milliseconds: what lies closer together than this may have got either order.
_UNSURE_S: Final = 0.005


@dataclass(frozen=True)
class Write:
    """One acknowledged write; `values` of its keys, `DELETED` for what it took out.  `whole`: nothing else stayed."""

    values: Mapping[str, Any]
    began_s: float
    ended_s: float
    whole: bool = False

    def surely_before(self, other: Write) -> bool:
        return self.ended_s + _UNSURE_S < other.began_s


class History:
    """Thread-safe.  A key is written by one thread only, one write after the other, but for whole writes."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.writes: list[Write] = []

    def add(self, write: Write) -> None:
        """It has been acknowledged."""
        with self._guard:
            self.writes.append(write)

    def faults_of(self, contents: Mapping[str, Any]) -> list[str]:
        """What is wrong with `contents` as the end of it all: lost writes, values that nobody wrote last."""
        latest: dict[str, Write] = {}
        wholes = [write for write in self.writes if write.whole]
        for write in sorted(self.writes, key=lambda each: each.began_s):
            if not write.whole:
                latest.update(dict.fromkeys(write.values, write))
        faults = []
        for key in sorted({*latest, *contents, *(key for whole in wholes for key in whole.values)}):
            found = contents.get(key, DELETED)
            allowed = self._may_be(key, latest.get(key), wholes)
            if found not in allowed:
                faults.append(f"{key} is {_shown(found)}, not {' or '.join(map(_shown, allowed))}")
        return faults

    @staticmethod
    def _may_be(key: str, update: Write | None, wholes: list[Write]) -> list[Any]:
        """The value of each write to `key` that no other one surely came after; a whole write is one to every key."""
        writes = [*wholes, *([update] if update is not None else [])]
        last = [write for write in writes if not any(write.surely_before(other) for other in writes)]
        return [write.values.get(key, DELETED) for write in last] or [DELETED]


def _shown(value: Any) -> str:
    return "absent" if value is DELETED else repr(value)
