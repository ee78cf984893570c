"""How much a host answers: requests may be of any age, so somebody without a key could have old ones answered again."""

from __future__ import annotations

from miros_cache_net import limits
from miros_cache_net.clock import Clock


class AnswerRate:
    """A token bucket of bytes.  Who is not answered asks again, of another host as likely as not.

    `refused`: answers that were not given.  Belongs to one thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = float(limits.ANSWER_BYTES_AT_ONCE)
        self._looked_s = clock.monotonic_s()
        self.refused = 0

    def allows(self, size: int) -> bool:
        """Whether an answer of `size` bytes may go out now; it is counted."""
        now_s = self._clock.monotonic_s()
        earned = (now_s - self._looked_s) * limits.ANSWER_BYTES_PER_S
        self._left, self._looked_s = min(self._left + earned, float(limits.ANSWER_BYTES_AT_ONCE)), now_s
        if self._left <= 0:
            self.refused += 1
            return False
        # into debt, so that what is larger than all of it goes out at all
        self._left -= max(size, limits.ANSWER_LEAST_BYTES)
        return True
