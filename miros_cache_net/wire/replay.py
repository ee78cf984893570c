"""Answers each request once: a bounded memory of requests seen.

Only messages that make a node *do* something are remembered.  State may arrive any number of times: merging it again
changes nothing.
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
    """The requests seen lately.  Thread-safe.

    A request is identified by its sender's boot nonce and its id, so that a restarted sender is not confused with its
    former run.  Age is not checked: a host with a wrong clock may ask too.  So a captured request is answered again
    after a restart, and whenever it has been forgotten, after `limits.REPLAY_WINDOW_S`; a rate limit bounds the cost of
    such answers (`fleet.answer_rate`).
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, message: Message) -> None:
        """Remember a request.  Raises `Replayed` if it was seen before; other kinds of message are ignored."""
        if message.kind not in REQUESTS:
            return
        now_s = self._clock.monotonic_s()
        identity = (message.origin.boot, message.message_id)
        with self._lock:
            self._forget(now_s)
            if identity in self._seen:
                raise Replayed("the request was seen before")
            self._seen[identity] = now_s

    def _forget(self, now_s: float) -> None:
        # the wall clock may jump, so age is monotonic time since arrival
        while self._seen:
            first = next(iter(self._seen))
            if now_s - self._seen[first] <= limits.REPLAY_WINDOW_S and len(self._seen) < limits.REPLAY_IDS:
                return
            del self._seen[first]
