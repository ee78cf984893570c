"""When to send the next digest: the Trickle algorithm (RFC 6206).

Hosts that agree keep each other quiet: whoever hears the same digest in this interval does not send its
own, so the fleet as a whole sends about one digest an interval, however many hosts there are.  Disagreement
makes the interval short again, so that it is found and mended quickly.
"""

from __future__ import annotations

import random


class Trickle:
    """One instance of RFC 6206 with redundancy constant k = 1.

    The owner calls `next_delay_s` for when to look again, `should_send` when that time has come, and reports
    what it hears with `heard`.
    """

    def __init__(self, least_s: float, most_s: float, rng: random.Random) -> None:
        self._least_s = min(least_s, most_s)
        self._most_s = most_s
        self._rng = rng
        self._interval_s = self._least_s
        self._rest_s = 0.0
        self._agreeing = 0

    def next_delay_s(self) -> float:
        """Seconds until the moment in the next interval at which `should_send` is to be asked."""
        at_s = self._rng.uniform(self._interval_s / 2, self._interval_s)
        delay_s = self._rest_s + at_s
        self._rest_s = self._interval_s - at_s
        self._interval_s = min(2 * self._interval_s, self._most_s)
        return delay_s

    def should_send(self) -> bool:
        """Nobody has said the same since the last time this was asked."""
        quiet = self._agreeing == 0
        self._agreeing = 0
        return quiet

    def heard(self, agrees: bool) -> bool:
        """Another host's digest came in; True: start over with `next_delay_s`, the interval is short again."""
        if agrees:
            self._agreeing += 1
            return False
        restart = self._interval_s > self._least_s
        self._interval_s, self._rest_s = self._least_s, 0.0
        return restart
