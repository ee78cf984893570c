"""Reports hosts whose clocks are ahead.  Their messages and documents are accepted all the same."""

from __future__ import annotations

import math

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import Reason
from miros_cache_net.fleet.complaints import Complaints
from miros_cache_net.wire.envelope import Message

_MEND = "set the clock of that host, or of this one (chrony, NTP)"


class ClockWatch:
    """Compares incoming times with this host's clock.  A late message may be a replay, an early one cannot be.

    Not thread-safe.
    """

    def __init__(self, clock: Clock, complaints: Complaints) -> None:
        self._clock = clock
        self._complaints = complaints
        self._text = ""
        self._until_s = -math.inf

    def heard(self, message: Message) -> None:
        """A trusted message from another host."""
        ahead_s = (message.sent_ms - self._clock.wall_ms()) / 1000
        if ahead_s * 1000 <= limits.CLOCK_AHEAD_MS:
            return
        what = f"has a clock that is {ahead_s:.0f} s ahead of this one's: {_MEND}"
        if not self.trouble:  # the number changes with every message; keep the text stable
            self._text = f"{message.origin.node} {what}"
        self._until_s = self._clock.monotonic_s() + limits.CLOCK_TROUBLE_S
        self._complaints.tell(Reason.CLOCK, message.origin.node, what)

    def took(self, document: Document, node: str) -> None:
        """A document from `node` brought something new."""
        ahead_ms = document.ahead_ms(self._clock.wall_ms())
        if ahead_ms > limits.CLOCK_AHEAD_MS:
            what = f"sent stamps {ahead_ms / 1000:.0f} s ahead of this host's clock; they were accepted, but {_MEND}"
            self._complaints.tell(Reason.CLOCK, node, what)

    @property
    def trouble(self) -> str:
        """Which host's clock was ahead within `limits.CLOCK_TROUBLE_S`; "" if none."""
        return self._text if self._clock.monotonic_s() < self._until_s else ""
