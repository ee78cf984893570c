"""The hybrid clock of a process: an effect has a later moment than its cause, on every host.

A moment is one integer: milliseconds since 1970 times 2**16, plus a counter.  Each message carries its sender's moment,
and the receiver's next moment is later.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock

_COUNTER_BITS: Final = 16
#: The latest moment that a message may carry.
LATEST_MOMENT: Final = limits.STAMP_WALL_MS << _COUNTER_BITS


class Moments:
    """Gives each caller a later moment than the previous one.  Thread-safe."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._last = 0
        # Re-entrant: a signal handler may start a chart while its thread holds the lock.
        self._lock = threading.RLock()

    def now(self) -> int:
        """The next moment."""
        own = self._clock.wall_ms() << _COUNTER_BITS
        with self._lock:
            self._last = own if own > self._last else self._last + 1
            return self._last

    def heard(self, moment: int) -> None:
        """Make the next moment later than `moment`, unless a wrong clock put that `limits.CLOCK_AHEAD_MS` ahead."""
        if moment <= (self._clock.wall_ms() + limits.CLOCK_AHEAD_MS) << _COUNTER_BITS:
            with self._lock:
                self._last = max(self._last, moment)

    def in_child(self) -> None:
        """Replace the lock, which may have been held at the fork."""
        self._lock = threading.RLock()


def moment_of(wall_ms: int) -> int:
    """The first moment of that millisecond."""
    return wall_ms << _COUNTER_BITS


def split(moment: int) -> tuple[int, int]:
    """A moment's milliseconds since 1970, and its counter."""
    return moment >> _COUNTER_BITS, moment & ((1 << _COUNTER_BITS) - 1)


#: The hybrid clock of this process.
MOMENTS: Final = Moments()

os.register_at_fork(after_in_child=MOMENTS.in_child)
