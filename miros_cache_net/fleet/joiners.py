"""Joining hosts that asked everybody: one digest that lists their ids answers all of them.

Of hosts that start at once, as after a broker's restart, only the first few ask and answer: each message goes to every
host, and a thousand hosts that all did it would send themselves a million.  The others find nobody, and the digests
that follow find what differs.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

from miros_cache_net import limits
from miros_cache_net.clock import Clock


class Joiners:
    """The joining hosts that this host answers unless another is faster.  Not thread-safe."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock, self._rng = clock, rng
        self._ids: dict[str, None] = {}
        self._asked_s: deque[float] = deque(maxlen=limits.JOIN_CROWD)

    def crowd(self) -> bool:
        """Whether so many hosts have just asked everybody that one more question, or answer, would be too many."""
        full = len(self._asked_s) == limits.JOIN_CROWD
        return full and self._clock.monotonic_s() - self._asked_s[0] < limits.JOIN_CROWD_S

    def asked(self, message_id: str, in_sync: bool) -> float | None:
        """A joining host has sent its digest.  Returns the seconds until `take` is due.

        None: it is scheduled already, or a crowd asks.
        A host that is not in step waits longer, so that those in step go first; if none is, joining hosts answer each
        other.
        """
        if self.crowd():
            return None
        self._asked_s.append(self._clock.monotonic_s())
        first = not self._ids
        self._ids[message_id] = None
        wait_s = 0.0 if in_sync else 2 * limits.JOIN_DIGEST_S
        return wait_s + self._rng.uniform(0, limits.JOIN_DIGEST_S) if first else None

    def answered(self, ids: Iterable[str]) -> None:
        """Another host that agrees with this one has answered these."""
        for each in ids:
            self._ids.pop(each, None)

    def forget(self) -> None:
        """The link is lost: who asked over it does not count for the next."""
        self._ids.clear()
        self._asked_s.clear()

    def take(self) -> tuple[str, ...]:
        """Remove and return the ids still to be answered."""
        ids = tuple(self._ids)
        self._ids.clear()
        return ids
