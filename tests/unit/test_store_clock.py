"""The cache file when this machine's clock jumps."""

from __future__ import annotations

from pathlib import Path

import pytest

from miros_cache_net.client import Cache
from miros_cache_net.testing import ManualClock

HOUR_MS = 3_600_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("jump_ms", [-24 * HOUR_MS, 24 * HOUR_MS])
def test_a_jump_of_a_day_loses_no_write_and_gives_no_negative_age(
    tmp_path: Path, clock: ManualClock, jump_ms: int
) -> None:
    with Cache(tmp_path / "c.json", clock=clock) as cache:
        cache.write({"n": 1, "time_out_in_minutes": 30})
        clock.jump_wall(jump_ms)
        assert cache.read().age_s >= 0
        cache.update({"m": 2})
        assert cache.read().dict == {"n": 1, "m": 2, "time_out_in_minutes": 30}
        cache.write({"n": 3, "time_out_in_minutes": 30})
        assert cache.read().dict == {"n": 3, "time_out_in_minutes": 30}
        assert not cache.read().expired


def test_after_the_clock_was_set_back_no_stamp_lies_ahead_for_good(tmp_path: Path, clock: ManualClock) -> None:
    clock.jump_wall(HOUR_MS)
    with Cache(tmp_path / "c.json", clock=clock) as cache:
        cache.write({"n": 1})
        clock.jump_wall(-HOUR_MS)
        cache.update({"m": 2})
        cache.write({"n": 3})
        document = cache._store.read().document
        assert document.ahead_ms(clock.wall_ms()) <= 0
        assert document.contents == {"n": 3}
