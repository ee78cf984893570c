"""Whose clock is wrong, where a request comes whose time is far from ours?"""

from __future__ import annotations

import math

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.wire.envelope import Message


class ClockAgreement:
    """Remembers that this clock has lately agreed with another host's: while that holds, it is the other's.

    One lone host with a wrong clock, or one request replayed much later, must not keep all others from answering those
    who join.  What held before this clock was set holds no more.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s = -math.inf
        self._offset_ms = 0.0

    def heard(self, message: Message) -> None:
        """A trusted message from another host."""
        if abs(self._clock.wall_ms() - message.sent_ms) <= limits.REQUEST_AGE_S * 1000:
            self._until_s = self._clock.monotonic_s() + limits.CLOCKS_AGREE_S
            self._offset_ms = self._present_offset_ms()

    @property
    def holds(self) -> bool:
        was_set = abs(self._present_offset_ms() - self._offset_ms) > limits.CLOCK_AHEAD_MS
        return self._clock.monotonic_s() < self._until_s and not was_set

    def _present_offset_ms(self) -> float:
        return self._clock.wall_ms() - self._clock.monotonic_s() * 1000
