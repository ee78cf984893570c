from __future__ import annotations

import random

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
