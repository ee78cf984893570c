"""When a canary flies, and an echo is missed, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from miros_cache_net.amqp.canary import Canary
from miros_cache_net.amqp.echo import Echo
from miros_cache_net.errors import MessageRefused


class Services:
    """pika's loop, as far as timers go."""

    def __init__(self) -> None:
        self.set: list[Timer] = []

    def call_later(self, delay_s: float, then: Callable[[], None]) -> Timer:
        timer = Timer(then)
        self.set.append(timer)
        return timer

    def pass_time(self) -> None:
        due, self.set = self.set, []
        for timer in due:
            if not timer.cancelled:
                timer.then()


class Timer:
    def __init__(self, then: Callable[[], None]) -> None:
        self.then, self.cancelled = then, False

    def cancel(self) -> None:
        self.cancelled = True


def canary(services: Any) -> tuple[Canary, list[str]]:
    told: list[str] = []
    return Canary(services, 1, 1, lambda: told.append("sent"), lambda: told.append("missed")), told


def test_canary_that_does_not_return_is_missed() -> None:
    services = Services()
    made, told = canary(services)
    made.start()
    services.pass_time()
    assert told == ["sent"]
    services.pass_time()
    assert told == ["sent", "missed"]


def test_one_that_is_heard_is_followed_by_another() -> None:
    services = Services()
    made, told = canary(services)
    made.start()
    services.pass_time()
    made.heard()
    services.pass_time()
    assert told == ["sent", "sent"]


def test_blocked_broker_gets_no_canary() -> None:
    services = Services()
    made, told = canary(services)
    made.blocked(True)
    made.start()
    services.pass_time()
    assert told == []
    made.blocked(False)
    services.pass_time()
    assert told == ["sent"]


def echo(services: Any) -> tuple[Echo, list[str], list[bool]]:
    missed: list[str] = []
    return Echo(services, 1, lambda: missed.append("missed")), missed, []


def test_confirmed_broadcast_that_does_not_come_back_is_missed() -> None:
    services = Services()
    made, missed, settled = echo(services)
    confirm = made.expected(lambda taken, _refused=None: settled.append(taken))
    services.pass_time()
    assert not missed
    confirm(True)
    services.pass_time()
    assert missed == ["missed"] and settled == [True]


@pytest.mark.parametrize("order", [("heard", "confirmed"), ("confirmed", "heard")])
def test_broadcast_may_come_back_before_or_after_its_confirm(order: tuple[str, str]) -> None:
    services = Services()
    made, missed, settled = echo(services)
    confirm = made.expected(lambda taken, _refused=None: settled.append(taken))
    for happens in order:
        made.heard() if happens == "heard" else confirm(True)
    services.pass_time()
    assert not missed and settled == [True]


def test_refused_broadcast_is_not_expected_back() -> None:
    services = Services()
    made, missed, settled = echo(services)
    made.expected(lambda taken, _refused=None: settled.append(taken))(False, MessageRefused("too long"))
    services.pass_time()
    assert not missed and settled == [False]
