"""Hosts whose clocks are behind, and are set right: between them nothing is lost that was acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import Fleet

HOUR_S = 3600


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as made:
        yield made


def test_key_of_clock_that_fell_back_stays(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    alpha.write({"a": 1})
    hosts.agree(alpha, beta, on=lambda contents: contents == {"a": 1})
    beta.skew(-HOUR_S)
    beta.update({"b": 2})
    hosts.agree(alpha, beta, on=lambda contents: contents == {"a": 1, "b": 2})
    beta.skew(0)
    alpha.update({"after": 3})
    beta.update({"after too": 4})
    hosts.agree(alpha, beta, on=lambda contents: contents == {"a": 1, "b": 2, "after": 3, "after too": 4})


def test_keys_of_a_slow_clock_stay_after_restart(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    alpha.write({})
    hosts.agree(alpha, beta, on=lambda contents: contents == {})
    beta.skew(-HOUR_S)
    keys = {f"key-{number}": number for number in range(60)}
    for key, value in keys.items():
        beta.update({key: value})
    beta.stop()
    beta.skew(0)
    beta.start()
    hosts.agree(alpha, beta, on=lambda contents: contents == keys)


@pytest.mark.parametrize(
    ("behind_s", "kept"),
    [(0, {"a": 1, "honest": 2, "mine": 3}), (HOUR_S, {"a": 1, "honest": 2})],
    ids=["right", "behind"],
)
def test_first_update_of_fresh_host_wipes_nothing(hosts: Fleet, behind_s: int, kept: dict[str, int]) -> None:
    """Behind the fleet's newest whole write it is lost itself, as whoever is cut off and behind loses."""
    alpha = hosts.add("alpha")
    alpha.write({"a": 1, "honest": 2})
    fresh = hosts.add("fresh", start=False)
    fresh.cut()
    fresh.skew(-behind_s)
    fresh.start()
    fresh.update({"mine": 3})
    fresh.skew(0)
    fresh.heal()
    fresh.wait_joined()
    hosts.agree(alpha, fresh, on=lambda contents: contents == kept)
    alpha.update({"after": 4})
    hosts.agree(alpha, fresh, on=lambda contents: contents == {**kept, "after": 4})


def test_clock_of_1970_that_jumps_after_boot_costs_nothing(hosts: Fleet) -> None:
    """As on a board without a battery, until it hears of the time."""
    alpha, board = hosts.add("alpha"), hosts.add("board", start=False)
    alpha.write({"a": 1})
    board.skew(60 - time.time())
    board.start()
    board.wait_joined()
    hosts.agree(alpha, board, on=lambda contents: contents == {"a": 1})
    board.update({"before": 2})
    hosts.agree(alpha, board, on=lambda contents: contents == {"a": 1, "before": 2})
    board.skew(0)
    board.update({"after": 3})
    alpha.update({"a": 4})
    hosts.agree(alpha, board, on=lambda contents: contents == {"a": 4, "before": 2, "after": 3})
