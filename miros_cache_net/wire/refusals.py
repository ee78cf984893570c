"""Counts refused messages by reason, and reports them now and then."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import WireError
from miros_cache_net.observe.registry import Labelled

log = logging.getLogger(__name__)


#: Reports a refusal to a person, in one line.
Say = Callable[[WireError, str], None]


def _log(_error: WireError, line: str) -> None:
    log.warning("%s", line)


class Refusals:
    """Counts every refusal and reports one per reason per `limits.REFUSAL_LOG_S`, without the message's body.

    `counters` are by `WireError.counter`.  `say` is called on the refusing thread; None: refusals are logged.
    Thread-safe; memory is bounded by the number of reasons.
    """

    def __init__(self, counters: Labelled, clock: Clock = SYSTEM_CLOCK, say: Say | None = None) -> None:
        self._counters, self._clock = counters, clock
        self._say = say or _log
        self._lock = threading.Lock()
        self._silent: dict[str, int] = {}  # refusals since the last report, by reason
        self._said_s: dict[str, float] = {}

    def note(self, error: WireError) -> None:
        """Count one refusal."""
        reason = error.counter
        self._counters.add(reason)
        with self._lock:
            silent = self._silent_until_now(reason)
        if silent is not None:
            more = f" (and {silent} more like it since the last report)" if silent else ""
            self._say(error, f"refused a message, {reason}: {error}{more}")

    def _silent_until_now(self, reason: str) -> int | None:
        """How many went unreported since the last report; None if it is too early for another."""
        now_s = self._clock.monotonic_s()
        if now_s - self._said_s.get(reason, -math.inf) < limits.REFUSAL_LOG_S:
            self._silent[reason] = self._silent.get(reason, 0) + 1
            return None
        self._said_s[reason] = now_s
        return self._silent.pop(reason, 0)
