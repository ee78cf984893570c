"""How often documents may go out."""

from __future__ import annotations

from miros_cache_net.fleet.pace import Pace


def gone(pace: Pace, from_s: float, to_s: float, step_s: float = 0.001) -> int:
    """How many go when somebody always has one more."""
    steps = round((to_s - from_s) / step_s)
    return sum(pace.take(from_s + number * step_s) == 0 for number in range(steps))


def test_a_few_go_at_once_and_then_one_each_interval() -> None:
    pace = Pace(5, 0.05)
    assert [pace.take(100.0) for _ in range(5)] == [0.0] * 5
    assert 0.0499 < pace.take(100.0) < 0.0501
    assert gone(pace, 100.0, 101.0) in (19, 20)


def test_whoever_waits_as_long_as_told_may_send_and_is_not_put_off_again() -> None:
    pace, now_s = Pace(2, 0.05), 7.0
    for _ in range(1000):
        wait_s = pace.take(now_s)
        if wait_s:
            # timers are never early, but a sum of floats may be
            now_s += wait_s + 1e-9
            assert pace.take(now_s) == 0


def test_quiet_time_gives_back_all_that_may_go_at_once_and_no_more() -> None:
    pace = Pace(5, 0.05)
    gone(pace, 0.0, 10.0)
    assert [pace.take(1_000.0) for _ in range(6)].count(0.0) == 5
