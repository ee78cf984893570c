"""Time as a dependency: code that needs the time is handed a `Clock`.."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the project wants to know of time."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC, as this machine believes; may jump either way."""

    def monotonic_s(self) -> float:
        """Seconds from some fixed moment; never runs back."""


class SystemClock:
    """The clock of the operating system."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


SYSTEM_CLOCK: Clock = SystemClock()
