"""Remembers other hosts' documents that exceed a cap when merged with this host's, so they are not sent repeatedly.

A merge may not leave anything out (hosts would end up with different documents), so such hosts stay apart until a whole
write on any of them.  All of them report it.
"""

from __future__ import annotations

from typing import NamedTuple

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp


class _Refused(NamedTuple):
    version: str
    newest: Stamp
    held: str
    cap: str


class RefusedDocuments:
    """The latest such document of each host, at most `limits.REFUSED_DOCUMENTS`.  Not thread-safe."""

    def __init__(self) -> None:
        self._of: dict[str, _Refused] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def note(self, node: str, theirs: Document, mine: Document, cap: str) -> bool:
        """Note `theirs`, sent by `node`; False if this pair of versions is already known not to fit."""
        is_new = not self.knows(theirs.version, mine)
        self._of.pop(node, None)
        if len(self._of) >= limits.REFUSED_DOCUMENTS:
            del self._of[next(iter(self._of))]
        newest = max(theirs.last_stamp, theirs.floor.stamp)
        self._of[node] = _Refused(theirs.version, newest, mine.version, cap)
        return is_new

    def knows(self, version: object, mine: Document) -> bool:
        """Whether that version has been refused, and this host's document has not changed since."""
        return any(each.version == version and each.held == mine.version for each in self._of.values())

    def fits(self, node: str) -> None:
        """The document that `node` has now can be merged."""
        self._of.pop(node, None)

    def local_changed(self, mine: Document) -> None:
        """Forget refused documents that are entirely older than a whole write: it replaces them everywhere."""
        self._of = {node: each for node, each in self._of.items() if each.newest >= mine.floor.stamp}

    def clear(self) -> None:
        self._of.clear()

    @property
    def trouble(self) -> str:
        """What is wrong and how to fix it; "" if nothing is."""
        if not self._of:
            return ""
        node, refused = next(reversed(self._of.items()))
        others = f" (and {len(self._of) - 1} more)" if len(self._of) > 1 else ""
        return (
            f"the documents of this host and of {node}{others} exceed a cap together ({refused.cap}), so each keeps "
            "its own; to fix it, write the whole document (`miros-cache-net write`) on any host"
        )
