"""Clocks that are off: everything is taken in, and whose clock it is is said."""

from __future__ import annotations

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Stamp
from miros_cache_net.errors import Reason
from miros_cache_net.testing import ManualClock
from tests.replicas import NOTHING, Port, in_sync, message, written

HOUR_MS = 3_600_000


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, 10 * 365 * 24 * HOUR_MS])
def test_stamps_from_ahead_are_taken_and_reported_once(port: Port, clock: ManualClock, ahead_ms: int) -> None:
    host = in_sync(port, clock)
    ahead = written(clock, {"a": 1}, ahead_ms=ahead_ms)
    host.received(message("CACHE", ahead.to_json()), "")
    host.local_changed(ahead)
    newer = ahead.written({"a": 2}, Stamp(clock.wall_ms() + ahead_ms, 1, "beta"), 1)
    host.received(message("CACHE", newer.to_json()), "")
    assert port.merged == [ahead, newer]
    assert port.reports == [Reason.CLOCK]
    assert host.trouble == "", "the clock may be right by now; only the stamps are not"


def test_clock_ahead_is_a_trouble_until_unheard(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    host.received(message("digest", {}, sent_ms=clock.wall_ms() + limits.CLOCK_AHEAD_MS), "")
    assert (host.trouble, port.reports) == ("", [])
    host.received(message("digest", {}, sent_ms=clock.wall_ms() + HOUR_MS), "")
    said = host.trouble
    assert said.startswith("beta has a clock that is 3600 s ahead of this one's: set the clock")
    assert host.in_step, "it has what the fleet has"
    clock.advance(limits.CLOCK_TROUBLE_S - 1)
    host.received(message("digest", {}, sent_ms=clock.wall_ms() + HOUR_MS + 1000), "")
    assert host.trouble == said, "it does not change with each message"
    clock.advance(limits.CLOCK_TROUBLE_S - 1)
    assert host.trouble
    clock.advance(1)
    assert host.trouble == ""


def test_message_of_the_past_says_nothing_of_clocks(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    host.received(message("CACHE", NOTHING.to_json(), sent_ms=clock.wall_ms() - HOUR_MS), "")
    assert (host.trouble, port.reports) == ("", [])
