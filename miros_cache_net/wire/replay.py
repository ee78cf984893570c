"""Requests answered once: a bounded memory of those seen.

Only what makes a node *do* something is remembered.  State may arrive any number of times: merging it
again changes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import OutOfTime, Replayed
from miros_cache_net.wire.envelope import CACHE_FILE_READ, CHALLENGE, STATUS_REQUEST, Message

#: The kinds that are answered.
REQUESTS: Final = frozenset({CACHE_FILE_READ, STATUS_REQUEST, CHALLENGE})


class ReplayWindow:
    """Which requests have been seen, for as long as they could pass for fresh.  Safe for all threads.

    A request is known by its sender's boot nonce and its id, so that a sender that starts again is not
    taken for its former self.  The window ends with the process: what was captured less than
    `limits.REQUEST_AGE_S` before a restart is answered once more after it; a request for the status, which may be
    of any age, also each time that it has been forgotten.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, message: Message) -> None:
        """Take note of a request.  Raises `Replayed` if it was seen before, `OutOfTime` if its time is far from ours.

        Messages of other kinds pass unnoticed.
        """
        if message.kind not in REQUESTS:
            return
        # a host with a wrong clock is found by the status that it gives: one old question answered again gives nothing
        # away that would not be encrypted
        if message.kind != STATUS_REQUEST:
            self._check_age(message)
        now_s = self._clock.monotonic_s()
        identity = (message.origin.boot, message.message_id)
        with self._lock:
            self._forget(now_s)
            if identity in self._seen:
                raise Replayed("a request that came before")
            self._seen[identity] = now_s

    def _check_age(self, message: Message) -> None:
        age_s = (self._clock.wall_ms() - message.sent_ms) / 1000
        if abs(age_s) > limits.REQUEST_AGE_S:
            when = f"{age_s:.0f} s ago" if age_s > 0 else f"in {-age_s:.0f} s"
            raise OutOfTime(
                f"a request of {message.origin.node}, sent {when} by its clock: replayed, or one of the two clocks is "
                "wrong; run `miros-cache-net doctor` on both hosts"
            )

    def _forget(self, now_s: float) -> None:
        # sent up to REQUEST_AGE_S in our future, a request stays fresh for twice that; the wall clock may jump, so
        # that time is counted from its arrival
        while self._seen:
            first = next(iter(self._seen))
            if now_s - self._seen[first] <= 2 * limits.REQUEST_AGE_S and len(self._seen) < limits.REPLAY_IDS:
                return
            del self._seen[first]
