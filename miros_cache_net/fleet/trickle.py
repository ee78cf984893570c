"""When to send the next digest: the Trickle algorithm (RFC 6206).

Hosts that agree keep each other quiet: a host that hears its own digest from another in this interval does not send it,
so the whole fleet sends about one digest per interval, whatever its size.  Disagreement resets the interval to its
minimum, so that it is found and repaired quickly.
"""

from __future__ import annotations

import random


class Trickle:
    """One instance of RFC 6206 with redundancy constant k = 1.

    The owner sets a timer for `next_delay_s`, asks `should_send` when it is due, and reports each digest to `heard`.
    """

    def __init__(self, least_s: float, most_s: float, rng: random.Random) -> None:
        self._least_s = min(least_s, most_s)
        self._most_s = most_s
        self._rng = rng
        self._interval_s = self._least_s
        self._rest_s = 0.0
        self._agreeing = 0

    def next_delay_s(self) -> float:
        """Seconds until the owner should ask `should_send`, in the next interval."""
        at_s = self._rng.uniform(self._interval_s / 2, self._interval_s)
        delay_s = self._rest_s + at_s
        self._rest_s = self._interval_s - at_s
        self._interval_s = min(2 * self._interval_s, self._most_s)
        return delay_s

    def should_send(self) -> bool:
        """Whether no other host has sent the same digest since the last call."""
        quiet = self._agreeing == 0
        self._agreeing = 0
        return quiet

    def heard(self, agrees: bool) -> bool:
        """Another host's digest arrived; True if the interval was reset: restart the timer with `next_delay_s`."""
        if agrees:
            self._agreeing += 1
            return False
        restart = self._interval_s > self._least_s
        self._interval_s, self._rest_s = self._least_s, 0.0
        return restart
