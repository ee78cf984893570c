"""Documents of other hosts that pass a cap together with this host's: known, so that nobody sends them again and again.

Merging may not leave anything out (it would give another document on each host), so such hosts stay apart until a whole
write on any of them.  All of them say so.
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
    """The last one of each such host, bounded by `limits.REFUSED_DOCUMENTS`.  Belongs to one thread."""

    def __init__(self) -> None:
        self._of: dict[str, _Refused] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def note(self, node: str, theirs: Document, mine: Document, cap: str) -> bool:
        """`node` has sent it; False if these two versions have been found not to fit before."""
        is_new = not self.knows(theirs.version, mine)
        self._of.pop(node, None)
        if len(self._of) >= limits.REFUSED_DOCUMENTS:
            del self._of[next(iter(self._of))]
        newest = max(theirs.last_stamp, theirs.floor.stamp)
        self._of[node] = _Refused(theirs.version, newest, mine.version, cap)
        return is_new

    def knows(self, version: object, mine: Document) -> bool:
        """Whether the document of this version has been refused, and nothing has changed here since."""
        return any(each.version == version and each.held == mine.version for each in self._of.values())

    def fits(self, node: str) -> None:
        """What `node` has now is in step with this host, or can be."""
        self._of.pop(node, None)

    def local_changed(self, mine: Document) -> None:
        """A whole write that is later than all of a refused document takes its place wherever it is."""
        self._of = {node: each for node, each in self._of.items() if each.newest >= mine.floor.stamp}

    def clear(self) -> None:
        self._of.clear()

    @property
    def trouble(self) -> str:
        """What is wrong, and what to do; "" if nothing is."""
        if not self._of:
            return ""
        node, refused = next(reversed(self._of.items()))
        others = f" (and {len(self._of) - 1} more)" if len(self._of) > 1 else ""
        return (
            f"the documents of this host and of {node}{others} pass a cap together ({refused.cap}), so each keeps its "
            "own: a whole write (`miros-cache-net write`) on any host mends it"
        )
