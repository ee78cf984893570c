"""How often documents may go out."""

from __future__ import annotations

import pytest

from miros_cache_net.fleet.pace import Pace

LEAST_S, MOST_S = 0.005, 0.05


@pytest.fixture
def pace() -> Pace:
    return Pace(5, LEAST_S, MOST_S)


def sent(pace: Pace, from_s: float, for_s: float, writes_s: float) -> list[float]:
    """When documents go out of a writer with `writes_s` writes a second, who waits for nothing."""
    times, send_at_s = [], None
    for number in range(round(for_s * writes_s)):
        now_s = from_s + number / writes_s
        while send_at_s is not None and send_at_s <= now_s:
            wait_s = pace.take(send_at_s)
            times += [] if wait_s else [send_at_s]
            send_at_s = send_at_s + wait_s if wait_s else None
        if send_at_s is not None:
            pace.more()
        elif wait_s := pace.take(now_s):
            send_at_s = now_s + wait_s
        else:
            times.append(now_s)
    return times


def test_few_go_at_once_and_the_next_soon(pace: Pace) -> None:
    assert [pace.take(100.0) for _ in range(5)] == [0.0] * 5
    assert pace.take(100.0) == pytest.approx(LEAST_S)


def test_writer_below_fastest_pace_is_never_held_back(pace: Pace) -> None:
    assert len(sent(pace, 3.0, 10.0, writes_s=150)) == 1500


@pytest.mark.parametrize("writes_s", [300, 1_000, 10_000])
def test_endless_fast_writer_is_sent_at_slowest_pace(pace: Pace, writes_s: int) -> None:
    times = sent(pace, 3.0, 30.0, writes_s)
    last = [each for each in times if each > 30.0]
    assert len(last) == pytest.approx(3.0 / MOST_S, abs=2)


def test_patient_writer_is_soon_not_held_back(pace: Pace) -> None:
    sent(pace, 3.0, 10.0, writes_s=1_000)
    now_s, waits = 13.0, []
    for _ in range(100):
        waits.append(pace.take(now_s))
        now_s += waits[-1]
        if waits[-1]:
            assert pace.take(now_s + 1e-9) == 0
        now_s += 0.008
    assert waits[20:] == [0.0] * 80


def test_quiet_time_restores_only_the_first_burst(pace: Pace) -> None:
    sent(pace, 3.0, 10.0, writes_s=1_000)
    assert [pace.take(1_000.0) for _ in range(6)].count(0.0) == 5
