"""A clock that moves when the test says so."""

from __future__ import annotations

import threading


class ManualClock:
    """A `miros_cache_net.clock.Clock` that stands still until the test moves it.  Thread-safe.

    wall_ms      initial wall clock, milliseconds since 1970
    monotonic_s  initial monotonic clock, seconds
    """

    def __init__(self, wall_ms: int = 1_700_000_000_000, monotonic_s: float = 1_000.0) -> None:
        self._lock = threading.Lock()
        self._wall_ms = wall_ms
        self._monotonic_s = monotonic_s

    def wall_ms(self) -> int:
        with self._lock:
            return self._wall_ms

    def monotonic_s(self) -> float:
        with self._lock:
            return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Advance both clocks by `seconds`, which must not be negative (ValueError)."""
        if seconds < 0:
            raise ValueError("time does not run backwards; use jump_wall() to set the wall clock")
        with self._lock:
            self._wall_ms += round(seconds * 1000)
            self._monotonic_s += seconds

    def jump_wall(self, ms: int) -> None:
        """Move the wall clock by `ms` milliseconds, either way, as if somebody set it; the monotonic clock stays."""
        with self._lock:
            self._wall_ms += ms

    def __repr__(self) -> str:
        return f"ManualClock(wall_ms={self.wall_ms()}, monotonic_s={self.monotonic_s()})"
