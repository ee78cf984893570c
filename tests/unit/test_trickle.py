from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial

import pytest

from miros_cache_net import limits
from miros_cache_net.fleet.trickle import Trickle


def trickle(most_s: float = 30.0) -> Trickle:
    return Trickle(1.0, most_s, random.Random(7))


def test_interval_doubles_while_all_agree() -> None:
    timer = trickle()
    total_s = sum(timer.next_delay_s() for _ in range(12))
    # 1 + 2 + 4 + 8 + 16 + 7 x 30, the last one at some moment in its second half
    assert 1 + 2 + 4 + 8 + 16 + 6 * 30 + 15 <= total_s <= 1 + 2 + 4 + 8 + 16 + 7 * 30


def test_moment_lies_in_the_intervals_second_half() -> None:
    delays = [trickle_with(seed).next_delay_s() for seed in range(50)]
    assert all(0.5 <= delay <= 1.0 for delay in delays)
    assert len({round(delay, 3) for delay in delays}) > 20


def trickle_with(seed: int) -> Trickle:
    return Trickle(1.0, 30.0, random.Random(seed))


def test_host_that_heard_the_same_keeps_quiet() -> None:
    timer = trickle()
    timer.next_delay_s()
    assert timer.should_send()
    timer.heard(agrees=True)
    assert not timer.should_send()
    assert timer.should_send()


def test_disagreement_makes_the_interval_short_again() -> None:
    timer = trickle()
    for _ in range(8):
        timer.next_delay_s()
    assert timer.heard(agrees=False)
    assert timer.next_delay_s() <= 1.0
    assert timer.should_send()


def test_disagreement_in_shortest_interval_does_not_start_over() -> None:
    assert not trickle().heard(agrees=False)


def test_a_bound_below_the_least_interval_is_kept() -> None:
    timer = trickle(most_s=0.2)
    assert all(timer.next_delay_s() <= 0.4 for _ in range(10))


def test_many_equal_digests_make_the_shortest_interval_longer() -> None:
    timer = trickle()
    timer.next_delay_s()
    for _ in range(40):
        timer.heard(agrees=True)
    assert not timer.should_send()
    timer.heard(agrees=False)
    assert timer.next_delay_s() >= 5.0  # one of 1 s brought forty; one of 10 s brings four


def test_shortest_interval_shrinks_again_when_few_speak() -> None:
    timer = trickle()
    timer.next_delay_s()
    for _ in range(40):
        timer.heard(agrees=True)
    for _ in range(8):
        timer.should_send()
        timer.next_delay_s()
    timer.heard(agrees=False)
    assert timer.next_delay_s() <= 1.0


@pytest.mark.parametrize("heard", [0, 1, 4])
def test_few_equal_digests_change_nothing(heard: int) -> None:
    timer = trickle()
    timer.next_delay_s()
    for _ in range(heard):
        timer.heard(agrees=True)
    timer.should_send()
    timer.heard(agrees=False)
    assert timer.next_delay_s() <= 1.0


def test_first_interval_may_be_longer_within_the_bound() -> None:
    timer, bounded = trickle(), trickle(most_s=2.0)
    for each in timer, bounded:
        each.wait_longer(8.0)
    assert 4.0 <= timer.next_delay_s() <= 8.0
    assert 1.0 <= bounded.next_delay_s() <= 2.0
    timer.heard(agrees=False)
    assert timer.next_delay_s() <= 1.0


def test_shortest_interval_stays_short_whatever_was_heard() -> None:
    timer = trickle(most_s=3_600.0)
    for _ in range(100):
        timer.next_delay_s()
        for _ in range(1_000):
            timer.heard(agrees=True)
        timer.should_send()
    timer.heard(agrees=False)
    assert timer.next_delay_s() <= limits.DIGEST_CROWD_S


def test_crowd_that_hears_late_calms_down_amid_changes() -> None:
    """A thousand hosts behind one queue that delivers 10,000 messages a second, with a change each second."""
    crowd = Crowd(hosts=1000, deliveries_per_s=10_000)
    crowd.run(120.0, change_every_s=1.0)
    assert crowd.sent_between(0.0, 30.0) > 100 and crowd.sent_between(30.0, 120.0) <= 12


class Crowd:
    """Hosts with nothing but their timers, and the broker's queue between them."""

    def __init__(self, hosts: int, deliveries_per_s: float) -> None:
        self._rng = random.Random(3)
        self._timers = [Trickle(1.0, 30.0, self._rng) for _ in range(hosts)]
        self._versions, self._terms = [0] * hosts, [0] * hosts
        self._takes_s, self._free_s = hosts / deliveries_per_s, 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._now_s = 0.0
        self._sent_s: list[float] = []

    def run(self, for_s: float, change_every_s: float) -> None:
        for host in range(len(self._timers)):
            self._restart(host)
        for number in range(1, int(for_s / change_every_s)):
            self._at(number * change_every_s, partial(self._send, partial(self._change, number)))
        while self._events and self._events[0][0] < for_s:
            self._now_s, _, call = heapq.heappop(self._events)
            call()

    def sent_between(self, begin_s: float, end_s: float) -> int:
        return sum(begin_s <= each < end_s for each in self._sent_s)

    def _at(self, moment_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment_s, next(self._numbers), call))

    def _send(self, arrive: Callable[[], None]) -> None:
        self._free_s = max(self._free_s, self._now_s) + self._takes_s
        self._at(self._free_s, arrive)

    def _change(self, number: int) -> None:
        self._versions = [number] * len(self._timers)

    def _restart(self, host: int) -> None:
        self._terms[host] += 1
        self._at(self._now_s + self._timers[host].next_delay_s(), partial(self._due, host, self._terms[host]))

    def _due(self, host: int, term: int) -> None:
        if term == self._terms[host]:
            if self._timers[host].should_send():
                self._sent_s.append(self._now_s)
                self._send(partial(self._heard, host, self._versions[host]))
            self._restart(host)

    def _heard(self, sender: int, version: int) -> None:
        for host, timer in enumerate(self._timers):
            if host != sender and timer.heard(version == self._versions[host]):
                self._restart(host)
