"""The back-off after failed attempts."""

from __future__ import annotations

import random

from miros_cache_net import limits


def retry_after_s(failures: int, rng: random.Random) -> float:
    """How long to wait after so many consecutive failures; jitter spreads the hosts that lost the same peer."""
    bound_s = min(limits.PEER_RETRY_TOP_S, limits.PEER_RETRY_BASE_S * 2.0 ** min(failures, 20))
    return rng.uniform(0.5, 1.0) * bound_s
