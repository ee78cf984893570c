"""May I discover now?  Step by step, and without a chart, a thread or a fleet."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.errors import DiscoveryTimeout
from miros_cache_net.one_discovery import discover_once
from miros_cache_net.single_flight import AGAIN_S, LEASE_PATIENCE_S, SingleFlight, Step
from miros_cache_net.testing import ManualClock
from tests.threads import no_lock_waiters

AMPLE_S = 20.0


class Program:
    """One program that may want to discover."""

    def __init__(self, document: Path, clock: ManualClock) -> None:
        self.will_do = False
        self.said: list[str] = []
        self.flight = SingleFlight(document, lambda: self.will_do, self.said.append, clock=clock, rng=random.Random(1))


@pytest.fixture
def program(tmp_path: Path, manual_clock: ManualClock) -> Iterator[Callable[[], Program]]:
    made: list[Program] = []

    def make() -> Program:
        made.append(Program(tmp_path / "cache.json", manual_clock))
        return made[-1]

    yield make
    for each in made:
        each.flight.end()


def test_lone_program_asks_for_lease_and_discovers(program: Callable[[], Program]) -> None:
    flight = program().flight
    assert flight.has_lock() is Step.ASK_LEASE
    assert flight.lease_is(True) is Step.DISCOVER


def test_good_document_is_kept_and_next_let_in(program: Callable[[], Program]) -> None:
    first, second = program(), program()
    first.will_do = True
    assert first.flight.has_lock() is Step.KEEP
    assert second.flight.has_lock() is Step.ASK_LEASE


def test_who_waited_for_the_lock_looks_again(program: Callable[[], Program]) -> None:
    first, second = program(), program()
    first.flight.has_lock()
    assert second.flight.has_lock() is Step.AWAIT_LOCK
    free = threading.Event()
    second.flight.await_lock(free.set)
    assert not free.is_set()
    first.flight.end()
    assert free.wait(AMPLE_S)
    second.will_do = True
    assert second.flight.has_lock() is Step.KEEP


def test_program_without_waiting_thread_looks_again_later(program: Callable[[], Program]) -> None:
    first, second = program(), program()
    first.flight.has_lock()
    free = threading.Event()
    with no_lock_waiters():
        assert not second.flight.await_lock(free.set)
    assert AGAIN_S[0] <= second.flight.pause_s <= AGAIN_S[1] and not free.is_set()
    first.flight.end()
    assert second.flight.has_lock() is Step.ASK_LEASE


def test_result_that_came_meanwhile_will_do(program: Callable[[], Program]) -> None:
    mine = program()
    assert mine.flight.has_lock() is Step.ASK_LEASE
    mine.will_do = True
    assert mine.flight.lease_is(True) is Step.KEEP


def test_lock_is_free_while_another_host_discovers(program: Callable[[], Program]) -> None:
    first, second = program(), program()
    first.flight.has_lock()
    assert first.flight.lease_is(False) is Step.AWAIT_FLEET
    assert AGAIN_S[0] <= first.flight.pause_s <= AGAIN_S[1]
    assert second.flight.has_lock() is Step.ASK_LEASE


def test_second_answer_to_one_question_gives_no_turn(program: Callable[[], Program]) -> None:
    first, second = program(), program()
    first.flight.has_lock()
    first.flight.lease_is(False)
    second.flight.has_lock()
    assert first.flight.lease_is(True) is Step.STAY
    assert second.flight.lease_is(True) is Step.DISCOVER
    assert second.flight.lease_is(False) is Step.STAY


def refused_until(mine: Program, clock: ManualClock, seconds: float) -> Step:
    for _ in range(round(seconds)):
        mine.flight.has_lock()
        step = mine.flight.lease_is(False)
        if step is not Step.AWAIT_FLEET:
            return step
        clock.advance(1)
    return Step.AWAIT_FLEET


def test_lease_that_never_comes_is_not_awaited_forever(
    program: Callable[[], Program], manual_clock: ManualClock
) -> None:
    mine = program()
    assert refused_until(mine, manual_clock, LEASE_PATIENCE_S[0]) is Step.AWAIT_FLEET
    assert mine.said == []
    assert refused_until(mine, manual_clock, LEASE_PATIENCE_S[1]) is Step.DISCOVER
    assert "discovering anyway" in mine.said[0] and len(mine.said) == 1


def test_patience_begins_anew_after_a_result(program: Callable[[], Program], manual_clock: ManualClock) -> None:
    mine = program()
    refused_until(mine, manual_clock, LEASE_PATIENCE_S[0])
    mine.will_do = True
    assert mine.flight.has_lock() is Step.KEEP
    mine.will_do = False
    assert refused_until(mine, manual_clock, LEASE_PATIENCE_S[0]) is Step.AWAIT_FLEET


def test_where_no_lock_can_be_had_everybody_discovers(tmp_path: Path, manual_clock: ManualClock) -> None:
    nowhere = Program(tmp_path / "absent" / "cache.json", manual_clock)
    free: list[bool] = []
    nowhere.flight.await_lock(lambda: free.append(True))
    assert free == [True]
    assert nowhere.flight.has_lock() is Step.ASK_LEASE
    assert nowhere.flight.lease_is(True) is Step.DISCOVER


# --- force ----------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache.json") as made:
        yield made


def test_force_goes_on_while_another_host_discovers(cache: Cache) -> None:
    asked: list[bool] = []

    def ask() -> bool:
        asked.append(True)
        return False

    cache.write({"n": 1})
    assert discover_once(cache, lambda: {"n": 2}, ask, force=True).dict == {"n": 2}
    assert asked == [True], "so that the others wait, where the lease is to be had"


def test_force_goes_on_while_another_process_discovers(cache: Cache, program: Callable[[], Program]) -> None:
    program().flight.has_lock()
    assert discover_once(cache, lambda: {"n": 2}, lambda: True, force=True).dict == {"n": 2}


def test_waiting_for_another_host_ends_in_time(cache: Cache) -> None:
    with pytest.raises(DiscoveryTimeout, match="another program"):
        discover_once(cache, lambda: pytest.fail("it ran"), lambda: False, timeout_s=0.05)


def test_waiting_without_a_thread_ends_in_time(cache: Cache, program: Callable[[], Program]) -> None:
    program().flight.has_lock()
    with no_lock_waiters(), pytest.raises(DiscoveryTimeout, match="another program"):
        discover_once(cache, lambda: pytest.fail("it ran"), lambda: True, timeout_s=0.05)


def test_beginning_is_taken_after_the_fleets_answer(cache: Cache) -> None:
    def ask() -> bool:
        cache.write({"n": "the fleet's", "time_out_in_minutes": 0})
        return True

    assert discover_once(cache, lambda: {"n": "found"}, ask).dict == {"n": "found"}
