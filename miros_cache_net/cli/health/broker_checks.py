"""Can this host link to each broker?  It tries what a node does, and says at which step that ends."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from miros_cache_net.amqp.link import Delivery, Link, LinkUp
from miros_cache_net.cli.health.finding import FAILED, OK, SKIPPED, Finding
from miros_cache_net.errors import (
    BrokerError,
    BrokerUnreachable,
    ExchangeConflict,
    LoginRefused,
    QueueConflict,
    VhostRefused,
)
from miros_cache_net.fleet.links import LinkFactory, place_of, rabbit_link
from miros_cache_net.settings.broker_address import BrokerAddress

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

#: Above what a link gives itself: 5 s for TCP, 10 s for login and declarations.
_ANSWER_S: Final = 17.0
_STEPS: Final = ("broker", "login", "vhost", "exchange")
_FAILED_AT: Final[tuple[tuple[type[BrokerError], str], ...]] = (
    (LoginRefused, "login"),
    (VhostRefused, "vhost"),
    (ExchangeConflict, "exchange"),
    (QueueConflict, "exchange"),
)


def check_brokers(settings: Settings, path: Path, link_factory: LinkFactory = rabbit_link) -> list[Finding]:
    """Each broker of the settings: reachable, login, virtual host, exchange; all are tried at once.

    What a node declares is declared: the exchange and the request queue, unless they exist.
    """
    place = place_of(settings, path)
    attempts = []
    for address in settings.amqp_urls:
        attempt = _Attempt(link_factory(settings.model_copy(update={"amqp_urls": (address,)}), place))
        attempts.append((address, attempt))
    deadline = time.monotonic() + _ANSWER_S
    try:
        outcomes = [(address, attempt.outcome(address, deadline)) for address, attempt in attempts]
    finally:
        for _address, attempt in attempts:
            attempt.link.stop()
    return [finding for address, outcome in outcomes for finding in _findings(address, outcome, settings.exchange)]


class _Attempt:
    """A link on its way; the listener of its own."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._first: queue.SimpleQueue[LinkUp | BrokerError] = queue.SimpleQueue()
        link.start(self)

    def outcome(self, address: BrokerAddress, deadline: float) -> LinkUp | BrokerError:
        try:
            return self._first.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return BrokerUnreachable(f"{address} neither takes nor refuses the link: see the broker's log")

    def link_up(self, up: LinkUp) -> None:
        self._first.put(up)

    def link_down(self, error: BrokerError) -> None:
        self._first.put(error)

    def delivered(self, delivery: Delivery) -> None:
        pass


def _findings(address: BrokerAddress, outcome: LinkUp | BrokerError, exchange: str) -> Iterable[Finding]:
    good = {
        "broker": f"RabbitMQ answers at {address}",
        "login": f"user {address.user!r} at {address}",
        "vhost": f"{address.vhost!r} at {address}",
        "exchange": f"{exchange!r} at {address}",
    }
    if isinstance(outcome, LinkUp):
        fleet = Finding("fleet", OK, f"{_peers(outcome)} at {address}")
        return [*(Finding(step, OK, good[step]) for step in _STEPS), fleet]
    end = _STEPS.index(next((step for kind, step in _FAILED_AT if isinstance(outcome, kind)), "broker"))
    return [
        *(Finding(step, OK, good[step]) for step in _STEPS[:end]),
        Finding(_STEPS[end], FAILED, str(outcome)),
        *(Finding(step, SKIPPED, f"needs the {_STEPS[end]}") for step in _STEPS[end + 1 :]),
    ]


def _peers(up: LinkUp) -> str:
    if up.request_servers is None:
        return "the request queue cannot be had now, so hosts join by their digests,"
    return f"{up.request_servers} ready to answer" if up.request_servers else "nobody else yet"
