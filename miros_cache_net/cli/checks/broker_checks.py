"""Can this host link to each broker?  The check does what a node does, and names the step that fails."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Publication
from miros_cache_net.cli.checks.finding import OK, SKIPPED, Finding, failed, failed_by
from miros_cache_net.errors import (
    BrokerError,
    BrokerUnreachable,
    ExchangeConflict,
    LoginRefused,
    MessageRefused,
    QueueConflict,
    VhostRefused,
)
from miros_cache_net.fleet.links import LinkFactory, rabbit_link
from miros_cache_net.fleet.place import place_of
from miros_cache_net.settings.broker_address import BrokerAddress

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

#: A link allows 5 s for TCP and 10 s for login and declarations; this is a little more.
_ANSWER_S: Final = 17.0
#: A cluster carries a message on in milliseconds.
_ARRIVES_S: Final = 3.0
_HELLO_BYTES: Final = 16
#: What an envelope adds to a document.
_ENVELOPE_BYTES: Final = 1024
_TWO: Final = 2
_STEPS: Final = ("broker", "login", "vhost", "exchange")
_FAILED_AT: Final[tuple[tuple[type[BrokerError], str], ...]] = (
    (LoginRefused, "login"),
    (VhostRefused, "vhost"),
    (ExchangeConflict, "exchange"),
    (QueueConflict, "exchange"),
)


def check_brokers(settings: Settings, path: Path, link_factory: LinkFactory = rabbit_link) -> list[Finding]:
    """Check each broker of the settings, all in parallel: reachable, login, virtual host, exchange.

    Those that answer are also asked whether they are one cluster.  What a node declares is declared: the exchange and
    the request queue, unless they exist.
    """
    place = place_of(settings, path)
    attempts = []
    for address in settings.amqp_urls:
        attempt = _Attempt(link_factory(settings.model_copy(update={"amqp_urls": (address,)}), place))
        attempts.append((address, attempt))
    deadline = time.monotonic() + _ANSWER_S
    try:
        outcomes = [(address, attempt.outcome(address, deadline)) for address, attempt in attempts]
        found = [finding for address, outcome in outcomes for finding in _findings(address, outcome, settings.exchange)]
        taken = [_check_messages(address, attempt, _size_of(path)) for address, attempt in attempts if attempt.up]
        return [*found, *taken, *_check_together(attempts)]
    finally:
        for _address, attempt in attempts:
            attempt.link.stop()


class _Attempt:
    """A link that is being opened, and its listener."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._first: queue.SimpleQueue[LinkUp | BrokerError] = queue.SimpleQueue()
        self.up: LinkUp | None = None
        self._news = threading.Condition()
        self._heard: set[bytes] = set()
        self._refused: MessageRefused | None = None
        link.start(self)

    def outcome(self, address: BrokerAddress, deadline: float) -> LinkUp | BrokerError:
        try:
            return self._first.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return BrokerUnreachable(f"{address} neither accepts nor refuses the link", mend="see the broker's log")

    def send_to(self, receiver: _Attempt, size: int = 0) -> MessageRefused | bool:
        """Whether a message of that size arrives; or the broker's refusal of it."""
        assert receiver.up is not None
        hello = secrets.token_bytes(_HELLO_BYTES)
        body = hello + bytes(max(0, size - len(hello)))
        # straight to its own queue: no node hears of it
        self.link.publish(Publication(body, queue=receiver.up.own_queue, refused=self._on_refused))
        with receiver._news:
            receiver._news.wait_for(lambda: hello in receiver._heard or self._refused, _ARRIVES_S)
            return self._refused or hello in receiver._heard

    def link_up(self, up: LinkUp) -> None:
        self.up = up
        self._first.put(up)

    def link_down(self, error: BrokerError) -> None:
        self._first.put(error)

    def delivered(self, delivery: Delivery) -> None:
        with self._news:
            self._heard.add(delivery.body[:_HELLO_BYTES])
            self._news.notify_all()

    def _on_refused(self, error: MessageRefused) -> None:
        with self._news:
            self._refused = error
            self._news.notify_all()


def _size_of(path: Path) -> int:
    """How long a message with the document at `path` is: its text in an envelope, sealed."""
    with contextlib.suppress(OSError):
        return min(limits.BODY_BYTES, _ENVELOPE_BYTES + path.stat().st_size * 4 // 3)
    return _ENVELOPE_BYTES


def _check_messages(address: BrokerAddress, attempt: _Attempt, size: int) -> Finding:
    """Whether the broker takes messages and delivers them, one of the document's size too."""
    small = attempt.send_to(attempt)
    large = attempt.send_to(attempt, size) if small is True and not attempt.link.alarm else small
    if attempt.link.alarm:
        text = f"RabbitMQ at {address} accepts no messages: {attempt.link.alarm}"
        return failed("messages", text, "free memory or disk there (`rabbitmq-diagnostics alarms` names the alarm)")
    if isinstance(large, MessageRefused):
        return failed_by("messages", large)
    if not large:
        return failed("messages", f"RabbitMQ at {address} takes a message of {size} bytes, but does not deliver it")
    return Finding("messages", OK, f"{address} takes a message of {size} bytes, the document's size, and delivers it")


def _check_together(attempts: Sequence[tuple[BrokerAddress, _Attempt]]) -> list[Finding]:
    """Whether what is sent at the first broker arrives at each of the others; [] unless two answer."""
    links = [(address, attempt) for address, attempt in attempts if attempt.up is not None]
    if len(links) < _TWO:
        return []
    first, sender = links[0]
    apart = [address for address, attempt in links[1:] if sender.send_to(attempt) is not True]
    if not apart:
        return [Finding("cluster", OK, f"the {len(links)} brokers that answer are one cluster")]
    others = ", ".join(map(str, apart))
    return [
        failed(
            "cluster",
            f"what is sent at {first} does not arrive at {others}: they are not one cluster, so hosts that link to one "
            "are another fleet than those at the other",
        )
    ]


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
        failed_by(_STEPS[end], outcome),
        *(Finding(step, SKIPPED, f"needs the {_STEPS[end]}") for step in _STEPS[end + 1 :]),
    ]


def _peers(up: LinkUp) -> str:
    if up.request_servers is None:
        return "the request queue is unavailable now, so hosts join by digest,"
    return f"{up.request_servers} ready to answer" if up.request_servers else "nobody else yet"
