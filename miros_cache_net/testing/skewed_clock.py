"""A host's wall clock with an error that the test sets."""

from __future__ import annotations

from miros_cache_net.clock import SYSTEM_CLOCK, Clock


class SkewedClock:
    """A `miros_cache_net.clock.Clock` that follows `true_clock`, but with its wall clock `skew_s` seconds ahead.

    `skew_s` may be set at any time, from any thread; negative: behind.  The monotonic clock is always right.
    """

    def __init__(self, true_clock: Clock = SYSTEM_CLOCK) -> None:
        self._true_clock = true_clock
        self.skew_s = 0.0

    def wall_ms(self) -> int:
        return self._true_clock.wall_ms() + round(self.skew_s * 1000)

    def monotonic_s(self) -> float:
        return self._true_clock.monotonic_s()
