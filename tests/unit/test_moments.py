"""The hybrid clock: effects have later moments than their causes, whatever the machines' clocks say."""

from __future__ import annotations

import threading

from miros_cache_net import limits
from miros_cache_net.observe.moments import Moments, split
from miros_cache_net.testing import ManualClock


def test_each_moment_is_later_than_the_one_before(manual_clock: ManualClock) -> None:
    moments = Moments(manual_clock)
    first, second = moments.now(), moments.now()
    assert second > first and split(second) == (manual_clock.wall_ms(), 1)


def test_clock_that_is_set_back_is_outlived() -> None:
    class Backwards:
        now_ms = 10_000

        def wall_ms(self) -> int:
            self.now_ms -= 1000
            return self.now_ms

        def monotonic_s(self) -> float:
            return 0.0

    moments = Moments(Backwards())
    assert moments.now() < moments.now()


def test_effect_follows_a_cause_of_a_faster_clock(manual_clock: ManualClock) -> None:
    moments = Moments(manual_clock)
    theirs = (manual_clock.wall_ms() + 5000) << 16
    moments.heard(theirs)
    assert moments.now() == theirs + 1


def test_clock_that_is_far_off_is_not_followed(manual_clock: ManualClock) -> None:
    moments = Moments(manual_clock)
    moments.heard((manual_clock.wall_ms() + limits.CLOCK_AHEAD_MS + 1) << 16)
    assert split(moments.now()) == (manual_clock.wall_ms(), 0)


def test_no_moment_is_given_twice() -> None:
    moments, given = Moments(), []

    def take() -> None:
        given.extend([moments.now() for _ in range(5000)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == 20_000
