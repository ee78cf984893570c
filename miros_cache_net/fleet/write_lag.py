"""How long the last change of another host took until this host's file held it."""

from __future__ import annotations

from miros_cache_net.clock import Clock
from miros_cache_net.document.value import Document, Stamp


class WriteLag:
    """Call all methods on one thread.

    lag_s  from when the last change was sent until it was stored, by the sender's clock and this one; None before that
    node   who sent it, "" before that
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._awaited: tuple[Stamp, int, str] | None = None
        self.lag_s: float | None = None
        self.node = ""

    def sent(self, document: Document, sent_ms: int, node: str) -> None:
        """`node` has sent a change, which is to be stored now."""
        self._awaited = document.last_stamp, sent_ms, node

    def stored(self, document: Document) -> None:
        """The file holds `document` now."""
        if self._awaited is not None and document.last_stamp >= self._awaited[0]:
            _, sent_ms, self.node = self._awaited
            self.lag_s = (self._clock.wall_ms() - sent_ms) / 1000
            self._awaited = None
