"""When and where to try again, and what is worth telling: rules without a network."""

from __future__ import annotations

import random
from collections.abc import Sequence

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.errors import BrokerError, BrokerUnreachable
from miros_cache_net.settings.broker_address import BrokerAddress

#: A link that stood this long starts its next back-off from the beginning.
STABLE_S = 5.0


class Reconnect:
    """Addresses in turn, a round of all of them without a pause, then full jitter below a growing bound."""

    def __init__(self, addresses: Sequence[BrokerAddress], clock: Clock, rng: random.Random) -> None:
        self._addresses = addresses
        self._clock = clock
        self._rng = rng
        self._next = 0
        self._tried = 0
        self._failures = 0
        self._round: list[BrokerError] = []
        self._told: type[BrokerError] | None = None
        self._up_since_s: float | None = None

    @property
    def address(self) -> BrokerAddress:
        """The one whose turn it is."""
        return self._addresses[self._next]

    def up(self) -> None:
        """The link stands."""
        self._up_since_s = self._clock.monotonic_s()
        self._told = None
        self._round = []

    def lost(self, error: BrokerError, at_once: bool) -> tuple[float | None, BrokerError | None]:
        """A link, or an attempt at one, has failed: seconds to wait, and what to tell the listener, if anything.

        None seconds: do not try again.
        """
        if error.fatal:
            return None, error
        was_up_s = self._up_since_s
        self._up_since_s = None
        if was_up_s is not None:
            if self._clock.monotonic_s() - was_up_s >= STABLE_S:
                self._failures = 0
            self._told = type(error)
            if at_once and self._failures == 0:
                self._failures = 1
                return 0.0, error
            self._move_on()
            return self._pause_s(), error
        self._round.append(error)
        self._move_on()
        if len(self._round) >= len(self._addresses):
            return self._round_failed()
        return 0.0, None

    def _round_failed(self) -> tuple[float | None, BrokerError | None]:
        telling = max(self._round, key=_telling)
        self._round = []
        news = telling if type(telling) is not self._told else None
        self._told = type(telling)
        return self._pause_s(), news

    def _move_on(self) -> None:
        self._next = (self._next + 1) % len(self._addresses)

    def _pause_s(self) -> float:
        bound = min(limits.RECONNECT_TOP_S, limits.RECONNECT_BASE_S * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._rng.uniform(0.0, bound)


def _telling(error: BrokerError) -> int:
    """Of several addresses' errors, what a person can mend says more than that one of them is not there."""
    return 0 if isinstance(error, BrokerUnreachable) else 1
