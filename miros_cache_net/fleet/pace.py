"""How often a host may send its document: a token bucket whose refill slows down while documents pile up.

A single write goes out at once, and so do a few in a row, and so does each write of a writer that waits for its effect.
A faster writer is slowed down: the next document contains all earlier ones, so receivers are spared disk writes that
nobody would have read.
"""

from __future__ import annotations


class Pace:
    """`at_once` documents without a pause, then one per `least_s`, slowing to one per `most_s` while several wait."""

    def __init__(self, at_once: int, least_s: float, most_s: float) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._ahead_s = (at_once - 1) * least_s
        self._interval_s = least_s
        self._due_s = float("-inf")
        self._waiting = 0

    def take(self, now_s: float) -> float:
        """0 if a document may go now (it is counted); else the seconds until it may, and it is counted as waiting."""
        wait_s = self._due_s - self._ahead_s - now_s
        if wait_s > 0:
            self.more()
            return wait_s
        if self._due_s <= now_s:
            self._interval_s = self._least_s
        elif self._waiting > 1:
            self._interval_s = min(2 * self._interval_s, self._most_s)
        elif self._waiting:
            self._interval_s = max(self._interval_s / 2, self._least_s)
        self._waiting = 0
        self._due_s = max(self._due_s, now_s) + self._interval_s
        return 0.0

    def more(self) -> None:
        """Count one more waiting document."""
        self._waiting += 1
