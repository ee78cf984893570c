"""Clocks that do not agree: whose it is, said to the users.  Nothing is kept out because of it."""

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
    """Compares what is heard with this clock.  A message of the past may be a replay, one of the future is not.

    Belongs to one thread.
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
        if not self.trouble:  # it would be another one with each second
            self._text = f"{message.origin.node} {what}"
        self._until_s = self._clock.monotonic_s() + limits.CLOCK_TROUBLE_S
        self._complaints.tell(Reason.CLOCK, message.origin.node, what)

    def took(self, document: Document, node: str) -> None:
        """A document of `node` brings something new."""
        ahead_ms = document.ahead_ms(self._clock.wall_ms())
        if ahead_ms > limits.CLOCK_AHEAD_MS:
            what = f"sent stamps {ahead_ms / 1000:.0f} s ahead of this clock; they were taken in, but {_MEND}"
            self._complaints.tell(Reason.CLOCK, node, what)

    @property
    def trouble(self) -> str:
        """Whose clock was ahead lately, "" if nobody's."""
        return self._text if self._clock.monotonic_s() < self._until_s else ""
