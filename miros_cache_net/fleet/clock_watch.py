"""Clocks that do not agree: stamps from the future are set aside, and a clock that is set forward is noticed."""

from __future__ import annotations

from collections.abc import Callable

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.document import Document, Stamp


class ClockWatch:
    """Knows since which stamp this clock has been behind another host's, if it was this one that was wrong.

    complain  called with the name of a host whose stamps lie ahead, and with what to say of it

    Belongs to one thread.
    """

    def __init__(self, clock: Clock, complain: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._complain = complain
        self._offset_ms = self._clock_offset_ms()
        self._behind_since: Stamp | None = None

    def is_ahead(self, document: Document, node: str, held: Document) -> bool:
        """Whether `document`, which `node` has sent to a host that holds `held`, must be set aside."""
        ahead_ms = document.ahead_ms(self._clock.wall_ms())
        if ahead_ms <= limits.CLOCK_AHEAD_MS:
            return False
        if self._behind_since is None:
            self._behind_since = max(held.last_stamp, held.floor.stamp)
        self._complain(
            node,
            f"sent stamps {ahead_ms / 1000:.0f} s ahead of this clock; set aside until the clocks agree. "
            "Set the clock of that host, or of this one (chrony, NTP)",
        )
        return True

    def set_forward(self) -> Stamp | None:
        """After which stamp this host has written with a clock that was behind, once, when that has been set forward.

        What was written meanwhile is younger than all that was set aside, whatever its stamps say.
        """
        offset_ms = self._clock_offset_ms()
        forward = offset_ms - self._offset_ms > limits.CLOCK_AHEAD_MS
        self._offset_ms = offset_ms
        if not forward:
            return None
        after, self._behind_since = self._behind_since, None
        return after

    def _clock_offset_ms(self) -> float:
        return self._clock.wall_ms() - self._clock.monotonic_s() * 1000
