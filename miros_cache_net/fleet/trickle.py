"""When to send the next digest: the Trickle algorithm (RFC 6206).

Hosts that agree keep each other quiet: a host that hears its own digest from another in this interval does not send it,
so the whole fleet sends about one digest per interval, whatever its size.  Disagreement resets the interval to its
minimum, so that it is found and repaired quickly.

In a large fleet many hosts send before they hear the first of them, so a host that hears the same digest many times
makes its shortest interval longer, as SRM does with its timers (Floyd and others, "A Reliable Multicast Framework",
1997, section VI).
"""

from __future__ import annotations

import random

from miros_cache_net import limits


class Trickle:
    """One instance of RFC 6206 with redundancy constant k = 1.

    The owner sets a timer for `next_delay_s`, asks `should_send` when it is due, and reports each digest to `heard`.
    """

    def __init__(self, least_s: float, most_s: float, rng: random.Random) -> None:
        self._least_s = self._shortest_s = min(least_s, most_s)
        self._most_s = most_s
        self._rng = rng
        self._interval_s = self._current_s = self._least_s
        self._rest_s = 0.0
        self._agreeing = 0

    def wait_longer(self, interval_s: float) -> None:
        """Make the next interval at least this long."""
        self._interval_s = min(max(self._interval_s, interval_s), self._most_s)

    def next_delay_s(self) -> float:
        """Seconds until the owner should ask `should_send`, in the next interval."""
        at_s = self._rng.uniform(self._interval_s / 2, self._interval_s)
        delay_s = self._rest_s + at_s
        self._rest_s = self._interval_s - at_s
        self._current_s = self._interval_s
        self._interval_s = min(2 * self._interval_s, self._most_s)
        return delay_s

    def should_send(self) -> bool:
        """Whether no other host has sent the same digest since the last call."""
        said, self._agreeing = self._agreeing, 0
        self._adapt(said)
        return said == 0

    def _adapt(self, said: int) -> None:
        if said > limits.DIGESTS_AT_ONCE:
            needed_s = self._current_s * said / limits.DIGESTS_AT_ONCE
            self._shortest_s = min(max(self._shortest_s, needed_s), limits.DIGEST_CROWD_S, self._most_s)
            self.wait_longer(needed_s)
        elif said <= 1:
            self._shortest_s = max(self._shortest_s / 2, self._least_s)

    def heard(self, agrees: bool) -> bool:
        """Another host's digest arrived; True if the interval was reset: restart the timer with `next_delay_s`."""
        if agrees:
            self._agreeing += 1
            return False
        restart = self._interval_s > self._shortest_s
        self._interval_s, self._rest_s = self._shortest_s, 0.0
        return restart
