"""What was refused, counted by reason, and said to a person now and then."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import WireError

log = logging.getLogger(__name__)


#: Tells a person of a refusal, in one line.
Say = Callable[[WireError, str], None]


def _log(_error: WireError, line: str) -> None:
    log.warning("%s", line)


class Refusals:
    """Counts every refusal and says one a reason every `limits.REFUSAL_LOG_S`, without the message's body.

    `say` is called on the refusing thread; without it the log is told.
    Safe for all threads; memory is bounded by the number of reasons that there are.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, say: Say | None = None) -> None:
        self._clock = clock
        self._say = say or _log
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._said: dict[str, tuple[float, int]] = {}  # reason -> when, and how many there were by then

    def counts(self) -> Counter[str]:
        """Refusals by `WireError.counter` since the start; a copy."""
        with self._lock:
            return self._counts.copy()

    def note(self, error: WireError) -> None:
        """Count one refusal."""
        reason = error.counter
        with self._lock:
            self._counts[reason] += 1
            silent = self._silent_until_now(reason)
        if silent is not None:
            more = f" (and {silent} more like it since last said)" if silent else ""
            self._say(error, f"refused a message, {reason}: {error}{more}")

    def _silent_until_now(self, reason: str) -> int | None:
        """How many were counted in silence since the last line; None while silence goes on."""
        now_s, count = self._clock.monotonic_s(), self._counts[reason]
        said_s, said_count = self._said.get(reason, (-math.inf, 0))
        if now_s - said_s < limits.REFUSAL_LOG_S:
            return None
        self._said[reason] = (now_s, count)
        return count - said_count - 1
