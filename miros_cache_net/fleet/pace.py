"""How often a host may send its document: a token bucket.

A single write goes out at once, and so do a few in a row.  Who goes on and on is slowed down: the next document
holds all of the earlier ones, so every receiver is spared the writes to its disk that nobody would have read.
"""

from __future__ import annotations


class Pace:
    """`at_once` documents without a pause, then one each `interval_s`."""

    def __init__(self, at_once: int, interval_s: float) -> None:
        self._interval_s = interval_s
        self._most_ahead_s = (at_once - 1) * interval_s
        self._due_s = float("-inf")

    def take(self, now_s: float) -> float:
        """0: one may go now, and is counted; else the seconds until one may, and none is counted."""
        wait_s = self._due_s - self._most_ahead_s - now_s
        if wait_s > 0:
            return wait_s
        self._due_s = max(self._due_s, now_s) + self._interval_s
        return 0.0
