"""Is this machine's clock believable?  Stamps are made of it."""

from __future__ import annotations

import os
import time

from miros_cache_net import errors
from miros_cache_net.cli.health.finding import FAILED, OK, WARNING, Finding
from miros_cache_net.clock import SYSTEM_CLOCK, Clock

#: What the two clocks may drift apart while the other checks run; slewing changes a rate by 0.05 % at most.
_DRIFT_S = 0.25
#: A file system may keep coarser times than the clock has.
_COARSE_S = 60.0


class ClockWatch:
    """Watches the wall clock against the monotonic one from its making to `finding`."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._difference_s = self._difference()

    def finding(self) -> Finding:
        now_s = self._clock.wall_ms() / 1000
        shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
        if now_s < os.stat(errors.__file__).st_mtime - _COARSE_S:
            return Finding(
                "clock", FAILED, f"{shown} is before this program was installed: set the clock (chrony, NTP)"
            )
        jump_s = self._difference() - self._difference_s
        if abs(jump_s) > _DRIFT_S:
            return Finding("clock", WARNING, f"{shown}; somebody has just set it by {jump_s:+.1f} s")
        return Finding("clock", OK, f"{shown}; other hosts must agree within 60 s")

    def _difference(self) -> float:
        return self._clock.wall_ms() / 1000 - self._clock.monotonic_s()
