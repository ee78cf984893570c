"""Is this machine's clock plausible?  Stamps are based on it."""

from __future__ import annotations

import os
import sys
import time

from miros_cache_net import errors
from miros_cache_net.cli.checks.finding import OK, Finding, failed, warning
from miros_cache_net.clock import SYSTEM_CLOCK, Clock

#: How far the two clocks may drift apart while the other checks run; slewing changes a rate by 0.05 % at most.
_DRIFT_S = 0.25
#: A file system's times may be coarser than the clock's.
_COARSE_S = 60.0


class ClockWatch:
    """Compares the wall clock with the monotonic one, from construction to `finding`."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._difference_s = self._difference()

    def finding(self) -> Finding:
        now_s = self._clock.wall_ms() / 1000
        shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
        # a frozen program (PyInstaller) is one file, without sources
        installed = errors.__file__ if os.path.exists(errors.__file__) else sys.executable
        if now_s < os.stat(installed).st_mtime - _COARSE_S:
            return failed("clock", f"{shown} is before this program was installed", "set the clock (chrony, NTP)")
        jump_s = self._difference() - self._difference_s
        if abs(jump_s) > _DRIFT_S:
            text = f"{shown}; it was just set by {jump_s:+.1f} s"
            return warning("clock", text, "run the check again; have one program set the clock (chrony, NTP)")
        return Finding("clock", OK, shown)

    def _difference(self) -> float:
        return self._clock.wall_ms() / 1000 - self._clock.monotonic_s()
