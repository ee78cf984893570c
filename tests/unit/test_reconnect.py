"""When a link tries again, where, and what it tells."""

from __future__ import annotations

import random

from miros_cache_net import limits
from miros_cache_net.amqp.reconnect import STABLE_S, Reconnect
from miros_cache_net.errors import BrokerError, BrokerUnreachable, ExchangeConflict, LoginRefused, TopologyLost
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import ManualClock

SLOW = BrokerUnreachable("slow", may_be_busy=True)
GONE, LOGIN, DELETED = BrokerUnreachable("gone"), LoginRefused("no"), TopologyLost("deleted")


class Longest(random.Random):
    """Always the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


def rules(hosts: str = "a", rng: random.Random | None = None) -> tuple[Reconnect, ManualClock]:
    clock = ManualClock()
    return Reconnect([BrokerAddress(host) for host in hosts], clock, rng or Longest()), clock


def pause(reconnect: Reconnect, error: BrokerError = GONE, *, at_once: bool = False) -> float:
    seconds, _ = reconnect.lost(error, at_once)
    assert seconds is not None
    return seconds


def test_pauses_double_up_to_a_bound() -> None:
    reconnect, _ = rules()
    pauses = [pause(reconnect) for _ in range(40)]
    assert pauses[:4] == [limits.RECONNECT_BASE_S * factor for factor in (1, 2, 4, 8)]
    assert max(pauses) == pauses[-1] == limits.RECONNECT_TOP_S


def test_pauses_are_spread_over_their_whole_range() -> None:
    drawn = [pause(rules(rng=random.Random(seed))[0]) for seed in range(200)]
    assert min(drawn) < 0.1 * limits.RECONNECT_BASE_S
    assert max(drawn) > 0.9 * limits.RECONNECT_BASE_S
    assert max(drawn) <= limits.RECONNECT_BASE_S


def test_attempts_get_more_time_until_a_link_stands() -> None:
    reconnect, clock = rules()
    given = []
    for _ in range(5_000):
        given.append(reconnect.patience)
        pause(reconnect, SLOW)
    assert given[:4] == [1, 2, 4, 4] and set(given[4:]) == {limits.PATIENCE_TOP}
    reconnect.up()
    pause(reconnect)
    assert reconnect.patience == limits.PATIENCE_TOP, "a link that falls at once is no sign of a faster broker"
    reconnect.up()
    clock.advance(STABLE_S)
    pause(reconnect, at_once=True)
    assert reconnect.patience == 1


def test_attempts_get_no_more_time_where_a_broker_says_no() -> None:
    reconnect, _ = rules("ab")
    for _ in range(10):
        pause(reconnect, SLOW)
        pause(reconnect, GONE)
        assert reconnect.patience == 1


def test_all_addresses_are_tried_before_one_is_told() -> None:
    reconnect, _ = rules("abc")
    tried, answers = [], []
    for _ in range(3):
        tried.append(reconnect.address.host)
        answers.append(reconnect.lost(GONE, False))
    assert tried == ["a", "b", "c"]
    assert answers == [(0.0, None), (0.0, None), (limits.RECONNECT_BASE_S, GONE)]
    assert reconnect.address.host == "a"


def test_all_addresses_of_a_name_precede_the_next() -> None:
    reconnect, _ = rules("ab")
    tried, answers = [], []
    for _ in range(2):
        assert reconnect.host is None, "names are looked up anew in each round"
        reconnect.found(["1", "2"])
        for _ in range(2):
            tried.append((reconnect.address.host, reconnect.host))
            answers.append(reconnect.lost(GONE, False))
    assert tried == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert answers == [(0.0, None)] * 3 + [(limits.RECONNECT_BASE_S, GONE)]


def test_lost_link_goes_on_with_names_next_address() -> None:
    reconnect, _ = rules("a")
    reconnect.found(["1", "2"])
    reconnect.up()
    assert reconnect.lost(DELETED, True)[0] == 0.0
    assert reconnect.host == "1", "the broker is there"
    reconnect.up()
    assert pause(reconnect) > 0
    assert reconnect.host == "2"
    assert pause(reconnect) > 0
    assert reconnect.host is None


def test_error_that_somebody_can_mend_is_told() -> None:
    reconnect, _ = rules("abc")
    told = [reconnect.lost(error, False)[1] for error in (GONE, LOGIN, GONE)]
    assert told == [None, None, LOGIN]


def test_cause_is_told_once_until_it_changes() -> None:
    reconnect, _ = rules()
    told = [reconnect.lost(error, False)[1] for error in (GONE, GONE, LOGIN, LOGIN, GONE)]
    assert told == [GONE, None, LOGIN, None, GONE]
    reconnect.up()
    assert [reconnect.lost(GONE, False)[1] for _ in range(2)] == [GONE, None]


def test_lost_link_goes_on_with_the_next_address() -> None:
    reconnect, clock = rules("ab")
    reconnect.up()
    clock.advance(STABLE_S)
    assert reconnect.lost(GONE, False) == (limits.RECONNECT_BASE_S, GONE)
    assert reconnect.address.host == "b"


def test_deleted_topology_is_redeclared_at_the_same_address() -> None:
    reconnect, clock = rules("ab")
    reconnect.up()
    clock.advance(STABLE_S)
    assert reconnect.lost(DELETED, True) == (0.0, DELETED)
    assert reconnect.address.host == "a"


def test_deletions_in_a_loop_make_no_reconnect_storm() -> None:
    reconnect, _ = rules()
    pauses = []
    for _ in range(10):
        reconnect.up()
        pauses.append(pause(reconnect, DELETED, at_once=True))
    assert pauses[0] == 0.0
    assert min(pauses[1:]) > 0
    assert pauses[-1] == limits.RECONNECT_TOP_S


def test_link_that_stood_starts_its_pauses_anew() -> None:
    reconnect, clock = rules()
    for _ in range(5):
        reconnect.lost(GONE, False)
    reconnect.up()
    clock.advance(STABLE_S)
    assert reconnect.lost(GONE, False)[0] == limits.RECONNECT_BASE_S


def test_fatal_error_is_told_and_ends_trying() -> None:
    fatal = ExchangeConflict("another type")
    assert rules("ab")[0].lost(fatal, False) == (None, fatal)


def test_a_late_broker_is_found_within_a_pause() -> None:
    reconnect, clock = rules()
    began_s, told = clock.monotonic_s(), []
    while clock.monotonic_s() - began_s < 600:
        seconds, cause = reconnect.lost(GONE, False)
        assert seconds is not None and seconds <= limits.RECONNECT_TOP_S
        clock.advance(seconds)
        told.append(cause)
    assert [cause for cause in told if cause] == [GONE]
    assert len(told) < 600, "no storm"
