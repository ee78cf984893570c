"""When and where to reconnect, and what to report: rules without a network."""

from __future__ import annotations

import random
from collections.abc import Sequence

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.errors import BrokerError, BrokerUnreachable
from miros_cache_net.settings.broker_address import BrokerAddress

#: A link that was up this long resets the back-off.
STABLE_S = 5.0


class Reconnect:
    """Tries all addresses of all brokers without a pause, then backs off with full jitter below a growing bound."""

    def __init__(self, addresses: Sequence[BrokerAddress], clock: Clock, rng: random.Random) -> None:
        self._addresses = addresses
        self._clock = clock
        self._rng = rng
        self._next = 0
        self._hosts: list[str] = []
        self._names_tried = 0
        self._failures = 0
        self._patience = 1.0
        self._round: list[BrokerError] = []
        self._told: type[BrokerError] | None = None
        self._up_since_s: float | None = None

    @property
    def address(self) -> BrokerAddress:
        """The broker to try now."""
        return self._addresses[self._next]

    @property
    def host(self) -> str | None:
        """The IP address to try now; None: resolve the broker's name and call `found`."""
        return self._hosts[0] if self._hosts else None

    @property
    def patience(self) -> float:
        """How many times longer than usual the next attempt may take, as `limits.PATIENCE_TOP` says."""
        return self._patience

    def found(self, hosts: Sequence[str]) -> None:
        """The broker's name resolves to these addresses."""
        self._hosts = list(hosts)

    def up(self) -> None:
        """The link is up."""
        self._up_since_s = self._clock.monotonic_s()
        self._told = None
        self._round = []
        self._names_tried = 0

    def lost(self, error: BrokerError, at_once: bool) -> tuple[float | None, BrokerError | None]:
        """A link or an attempt has failed.  Returns seconds to wait (None: give up) and the error to report, if any.

        `at_once`: the broker answers, so the first retry needs no pause.
        """
        if error.fatal:
            return None, error
        was_up_s = self._up_since_s
        self._up_since_s = None
        if was_up_s is not None:
            if self._clock.monotonic_s() - was_up_s >= STABLE_S:
                self._failures, self._patience = 0, 1.0
            self._told = type(error)
            if at_once and self._failures == 0:
                self._failures = 1
                return 0.0, error
            self._move_on()
            self._names_tried = 0
            return self._pause_s(), error
        self._round.append(error)
        self._move_on()
        if self._names_tried >= len(self._addresses):
            return self._round_failed()
        return 0.0, None

    def _round_failed(self) -> tuple[float | None, BrokerError | None]:
        telling = max(self._round, key=_telling)
        # one that answers at all, if only to refuse, is not to wait behind others that hang
        slow = all(isinstance(error, BrokerUnreachable) and error.may_be_busy for error in self._round)
        self._patience = min(2 * self._patience, limits.PATIENCE_TOP) if slow else 1.0
        self._round = []
        self._names_tried = 0
        news = telling if type(telling) is not self._told else None
        self._told = type(telling)
        return self._pause_s(), news

    def _move_on(self) -> None:
        self._hosts = self._hosts[1:]
        if not self._hosts:
            self._next = (self._next + 1) % len(self._addresses)
            self._names_tried += 1

    def _pause_s(self) -> float:
        bound = min(limits.RECONNECT_TOP_S, limits.RECONNECT_BASE_S * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._rng.uniform(0.0, bound)


def _telling(error: BrokerError) -> int:
    """Rank of an error: one that a person can fix says more than an unreachable address."""
    return 0 if isinstance(error, BrokerUnreachable) else 1
