"""When a canary flies, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miros_cache_net.amqp.canary import Canary


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
