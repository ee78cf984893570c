"""Remembers other hosts' documents that exceed a cap when merged with this host's, so they are not sent repeatedly.

A merge may not leave anything out (hosts would end up with different documents), so such hosts stay apart until a whole
write on any of them.  All of them report it, for as long as they hear of each other's document.
"""

from __future__ import annotations

from typing import NamedTuple

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.document.value import Document, Stamp


class _Refused(NamedTuple):
    version: str
    newest: Stamp
    held: str
    cap: str
    heard_s: float


class RefusedDocuments:
    """The latest such document of each host, at most `limits.REFUSED_DOCUMENTS`.  Not thread-safe.

    silence_s  a document that nobody has mentioned for this long is held by nobody
    """

    def __init__(self, clock: Clock, silence_s: float) -> None:
        self._clock, self._silence_s = clock, silence_s
        self._of: dict[str, _Refused] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def note(self, node: str, theirs: Document, mine: Document, cap: str) -> bool:
        """Note `theirs`, sent by `node`; False if this pair of versions is already known not to fit."""
        is_new = not self.heard(theirs.version, mine)
        self._of.pop(node, None)
        if len(self._of) >= limits.REFUSED_DOCUMENTS:
            del self._of[next(iter(self._of))]
        newest = max(theirs.last_stamp, theirs.floor.stamp)
        self._of[node] = _Refused(theirs.version, newest, mine.version, cap, self._clock.monotonic_s())
        return is_new

    def heard(self, version: str, mine: Document) -> bool:
        """Another host holds that version.  Whether it has been refused, and this host's document is the same since."""
        known = {node: each for node, each in self._of.items() if each.version == version and each.held == mine.version}
        now_s = self._clock.monotonic_s()
        self._of.update({node: each._replace(heard_s=now_s) for node, each in known.items()})
        return bool(known)

    def forget_silent(self) -> None:
        """Forget the documents that no host has mentioned lately."""
        since_s = self._clock.monotonic_s() - self._silence_s
        self._of = {node: each for node, each in self._of.items() if each.heard_s >= since_s}

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
