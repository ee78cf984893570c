"""Time as a dependency: code that needs the time is passed a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two readings of time that the project uses."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC by this machine's clock; may jump either way."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment; never goes backwards."""


class SystemClock:
    """The clock of the operating system."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


SYSTEM_CLOCK: Clock = SystemClock()
