"""Requests answered once: a bounded memory of those seen.

Only what makes a node *do* something is remembered.  State may arrive any number of times: merging it
again changes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import Replayed
from miros_cache_net.wire.envelope import Message
from miros_cache_net.wire.kinds import REQUESTS


class ReplayWindow:
    """Which requests have been seen lately.  Safe for all threads.

    A request is known by its sender's boot nonce and its id, so that a sender that starts again is not taken for its
    former self.  Its age says nothing: a host with a wrong clock asks like any other.  So what was captured is answered
    again after a restart, and each time that it has been forgotten, which takes `limits.REPLAY_WINDOW_S`; what all such
    answers may cost is bounded by their rate (`fleet.answer_rate`).
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, message: Message) -> None:
        """Take note of a request.  Raises `Replayed` if it was seen before; messages of other kinds pass unnoticed."""
        if message.kind not in REQUESTS:
            return
        now_s = self._clock.monotonic_s()
        identity = (message.origin.boot, message.message_id)
        with self._lock:
            self._forget(now_s)
            if identity in self._seen:
                raise Replayed("a request that came before")
            self._seen[identity] = now_s

    def _forget(self, now_s: float) -> None:
        # the wall clock may jump, so that time is counted from a request's arrival
        while self._seen:
            first = next(iter(self._seen))
            if now_s - self._seen[first] <= limits.REPLAY_WINDOW_S and len(self._seen) < limits.REPLAY_IDS:
                return
            del self._seen[first]
