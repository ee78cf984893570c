"""Accepts each token once, and only while young: for formats whose messages carry neither time nor id."""

from __future__ import annotations

import base64
import math
import threading
from typing import Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import FromTheFuture, Replayed, TooOld

#: After a Fernet token's version byte: seconds since 1970 by its maker's clock.
_TIME: Final = slice(1, 9)
#: Half of the token's HMAC; without the key nobody can make another token with the same half.
_MARK: Final = slice(-16, None)


class Mark(NamedTuple):
    """Identifies a token: when it was made (seconds since 1970, by its maker's clock), and a part of it."""

    made_s: int
    part: bytes


def mark_of(token: bytes) -> Mark:
    """The same for all spellings of a token, because base64 has several for the same bytes."""
    signed = base64.urlsafe_b64decode(token)
    return Mark(int.from_bytes(signed[_TIME], "big"), signed[_MARK])


class TokenWindow:
    """The Fernet tokens seen lately.  Thread-safe; memory is bounded by `most`.

    age_s         how old a token may be, and how long it is remembered, in seconds
    not_before_s  tokens made before this time (seconds since 1970) are too old
    most          tokens remembered; beyond it those of the earliest second are forgotten, and tokens that old are
                  refused from then on
    """

    def __init__(
        self,
        clock: Clock = SYSTEM_CLOCK,
        *,
        age_s: float = 300.0,
        not_before_s: float = -math.inf,
        most: int = limits.MESH_TOKENS,
    ) -> None:
        self._clock, self._age_s, self._most = clock, age_s, most
        self._not_before_s = not_before_s
        self._lock = threading.Lock()
        self._seen: dict[int, set[bytes]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def check(self, token: bytes) -> None:
        """Remember a token that a key has opened.

        Raises `TooOld`, `FromTheFuture`, or `Replayed` if it was seen before, in any spelling.
        """
        made_s, mark = mark_of(token)
        now_s = self._clock.wall_ms() / 1000
        with self._lock:
            self._forget(now_s)
            if made_s < now_s - self._age_s:
                raise TooOld(f"a message made {now_s - made_s:.0f} s ago: is a clock wrong, here or at the sender?")
            if made_s < self._not_before_s:
                raise TooOld(
                    "the message is from before this program started, or too old to remember: it may be a replay"
                )
            if made_s > now_s + limits.CLOCK_AHEAD_MS / 1000:
                raise FromTheFuture(
                    f"a message made {made_s - now_s:.0f} s from now: is a clock wrong, here or at the sender?"
                )
            of_that_second = self._seen.setdefault(made_s, set())
            if mark in of_that_second:
                raise Replayed("the message was seen before")
            of_that_second.add(mark)
            self._count += 1

    def remember(self, mark: Mark) -> None:
        """Count a token as seen that another program has taken."""
        with self._lock:
            of_that_second = self._seen.setdefault(mark.made_s, set())
            if mark.part not in of_that_second:
                of_that_second.add(mark.part)
                self._count += 1
            self._forget(self._clock.wall_ms() / 1000)

    def _forget(self, now_s: float) -> None:
        while self._seen:
            earliest_s = min(self._seen)
            if earliest_s >= now_s - self._age_s and self._count < self._most:
                return
            self._count -= len(self._seen.pop(earliest_s))
            # even if the clock is set back, a forgotten token is not accepted again
            self._not_before_s = max(self._not_before_s, earliest_s + 1)
