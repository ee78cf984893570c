"""Rate-limited reports about other hosts: now and then, not once per message."""

from __future__ import annotations

from collections.abc import Callable

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.errors import Reason


class Complaints:
    """Reports each reason about each host at most once per `limits.REPORT_AGAIN_S`.

    Holds at most `limits.COMPLAINTS` entries, because host names come from outside.  Not thread-safe.
    """

    def __init__(self, clock: Clock, report: Callable[[Reason, str], None]) -> None:
        self._clock = clock
        self._report = report
        self._told_s: dict[tuple[Reason, str], float] = {}

    def tell(self, reason: Reason, node: str, what: str) -> None:
        """Report that `node` does `what`, unless that was reported recently."""
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s.get((reason, node), -limits.REPORT_AGAIN_S) < limits.REPORT_AGAIN_S:
            return
        if len(self._told_s) >= limits.COMPLAINTS:
            self._told_s.clear()
        self._told_s[reason, node] = now_s
        self._report(reason, f"{node} {what}")
