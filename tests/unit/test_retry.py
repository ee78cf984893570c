"""How long discovery waits before it looks again for what was not there."""

from __future__ import annotations

import random

from miros_cache_net import limits
from miros_cache_net.discovery.retry import retry_after_s


def test_random_pause_doubles_up_to_a_bound() -> None:
    rng = random.Random(7)
    pauses = [[retry_after_s(failures, rng) for _ in range(50)] for failures in (0, 1, 2, 1000)]
    for each, bound_s in zip(pauses, (2.0, 4.0, 8.0, limits.PEER_RETRY_TOP_S), strict=True):
        assert bound_s / 2 <= min(each) < max(each) <= bound_s


def test_every_pause_is_longer_given_equal_luck() -> None:
    waits = [retry_after_s(failures, random.Random(1)) for failures in range(1, 40)]
    assert waits == sorted(waits)
    assert waits[0] < 4 < 100 < waits[-1] <= 300
