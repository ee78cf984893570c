"""Limits how much a host answers: a request may be of any age, so an attacker without a key could replay old ones."""

from __future__ import annotations

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.observe.registry import Counter


class AnswerRate:
    """A token bucket of bytes.  A host that gets no answer asks again, and probably reaches another host.

    `refused` counts the answers withheld.  Not thread-safe.
    """

    def __init__(self, clock: Clock, refused: Counter) -> None:
        self._clock, self._refused = clock, refused
        self._left = float(limits.ANSWER_BYTES_AT_ONCE)
        self._looked_s = clock.monotonic_s()

    def allows(self, size: int) -> bool:
        """Whether an answer of `size` bytes may go out now; if so, it is charged to the bucket."""
        now_s = self._clock.monotonic_s()
        earned = (now_s - self._looked_s) * limits.ANSWER_BYTES_PER_S
        self._left, self._looked_s = min(self._left + earned, float(limits.ANSWER_BYTES_AT_ONCE)), now_s
        if self._left <= 0:
            self._refused.add()
            return False
        # The balance may go negative; otherwise an answer larger than the bucket could never go out.
        self._left -= max(size, limits.ANSWER_LEAST_BYTES)
        return True
