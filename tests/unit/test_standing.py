"""Whether a host understands the others, and whose clock is odd."""

from __future__ import annotations

import random

import pytest

from miros_cache_net.errors import UnknownKey, WrongVersion
from miros_cache_net.fleet.standing import DOUBT_TIMER, Standing
from miros_cache_net.testing import ManualClock
from tests.replicas import message

HOUR_MS = 3_600_000


class Port:
    def __init__(self) -> None:
        self.asked = 0
        self.timers: dict[str, float] = {}

    def ask_all(self) -> str:
        self.asked += 1
        return f"question-{self.asked}"

    def after(self, name: str, delay_s: float) -> None:
        self.timers[name] = delay_s


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def standing(port: Port, clock: ManualClock) -> Standing:
    made = Standing(port, clock, digest_interval_s=30.0, answer_timeout_s=1.0, rng=random.Random(1))
    made.link_up()
    return made


def hear(standing: Standing, clock: ManualClock, node: str = "beta", ahead_ms: int = 0, is_new: bool = False) -> None:
    standing.heard(message("digest", {}, node=node, sent_ms=clock.wall_ms() + ahead_ms), is_new)


def time_passes(standing: Standing) -> None:
    standing.timers[DOUBT_TIMER]()


# --- understanding ----------------------------------------------------------------------------------


def test_host_that_never_understood_others_says_so_immediately(standing: Standing) -> None:
    assert standing.unheard == ""
    standing.refused(UnknownKey("no"))
    assert "with a key that this host does not have" in standing.unheard
    standing.refused(WrongVersion("no"))
    assert "run the same release" in standing.unheard


def test_host_that_understood_others_asks_first(standing: Standing, port: Port, clock: ManualClock) -> None:
    hear(standing, clock)
    standing.refused(UnknownKey("no"))
    assert standing.unheard == "" and port.asked == 0
    assert 0 < port.timers[DOUBT_TIMER] <= 30 / 4
    time_passes(standing)
    assert standing.unheard == "" and port.asked == 1
    time_passes(standing)
    assert "key" in standing.unheard
    hear(standing, clock)
    assert standing.unheard == ""


def test_strangers_messages_are_no_trouble_among_answers(standing: Standing, port: Port, clock: ManualClock) -> None:
    hear(standing, clock)
    standing.refused(UnknownKey("no"))
    time_passes(standing)
    hear(standing, clock)
    time_passes(standing)
    assert standing.unheard == "" and standing.takes_doubts


def test_nobody_is_asked_where_somebody_speaks_anyway(standing: Standing, port: Port, clock: ManualClock) -> None:
    hear(standing, clock)
    standing.refused(UnknownKey("no"))
    hear(standing, clock)
    time_passes(standing)
    assert port.asked == 0 and standing.unheard == ""


def test_a_flood_of_strangers_messages_makes_one_question(standing: Standing, port: Port, clock: ManualClock) -> None:
    hear(standing, clock)
    for _ in range(100):
        standing.refused(UnknownKey("no"))
    assert not standing.takes_doubts
    time_passes(standing)
    standing.refused(UnknownKey("no"))
    assert port.asked == 1


def test_messages_of_one_link_say_nothing_of_next(standing: Standing, port: Port, clock: ManualClock) -> None:
    standing.refused(UnknownKey("no"))
    standing.link_down()
    assert standing.unheard == ""
    standing.refused(UnknownKey("late"))
    assert standing.unheard == ""
    standing.link_up()
    time_passes(standing)
    assert port.asked == 0 and standing.takes_doubts


# --- clocks -----------------------------------------------------------------------------------------


def test_own_odd_clock_is_known_without_asking(standing: Standing, clock: ManualClock) -> None:
    hear(standing, clock, "beta")
    hear(standing, clock, "gamma")
    for seconds, said in ((3600, "ahead of"), (-3600, "behind"), (45, ""), (-45, "")):
        clock.jump_wall(seconds * 1000)
        assert (said in standing.clock_trouble) if said else standing.clock_trouble == ""
        clock.jump_wall(-seconds * 1000)
        assert standing.clock_trouble == ""


def test_odd_clock_of_another_is_no_trouble_here(standing: Standing, clock: ManualClock) -> None:
    hear(standing, clock, "beta", HOUR_MS)
    hear(standing, clock, "gamma")
    assert standing.clock_trouble == ""
    hear(standing, clock, "delta", HOUR_MS)
    assert "behind that of" in standing.clock_trouble


def test_either_clock_of_two_hosts_may_be_odd(standing: Standing, port: Port, clock: ManualClock) -> None:
    hear(standing, clock, "beta", HOUR_MS)
    assert standing.clock_trouble == "", "a third may be there"
    time_passes(standing)
    assert port.asked == 1
    hear(standing, clock, "beta", HOUR_MS)
    time_passes(standing)
    assert "3600 s behind that of beta" in standing.clock_trouble


def test_a_replayed_message_of_long_ago_proves_nothing(standing: Standing, port: Port, clock: ManualClock) -> None:
    hear(standing, clock, "beta", -HOUR_MS)
    assert standing.clock_trouble == ""
    time_passes(standing)
    assert port.asked == 1 and standing.question == "question-1"
    time_passes(standing)
    assert standing.clock_trouble == ""


def test_an_answer_from_behind_proves_that_clocks_differ(standing: Standing, clock: ManualClock) -> None:
    hear(standing, clock, "beta", -HOUR_MS)
    time_passes(standing)
    for node in ("beta", "gamma"):
        hear(standing, clock, node, -HOUR_MS, is_new=True)
    assert "ahead of that of beta and 1 more" in standing.clock_trouble


def test_agreement_of_others_makes_questions_needless(standing: Standing, port: Port, clock: ManualClock) -> None:
    for node in ("gamma", "delta"):
        hear(standing, clock, node)
    hear(standing, clock, "beta", -HOUR_MS)
    assert port.timers == {} and standing.takes_doubts


def test_clocks_of_many_hosts_need_bounded_memory(standing: Standing, clock: ManualClock) -> None:
    for number in range(1000):
        hear(standing, clock, f"node-{number}", HOUR_MS)
    for number in range(64):
        hear(standing, clock, f"good-{number}")
    assert standing.clock_trouble == ""
