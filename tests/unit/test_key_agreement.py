"""A host is locked out by what it cannot open only while it hears nothing that it can."""

from __future__ import annotations

import pytest

from miros_cache_net.fleet.key_agreement import KeyAgreement
from miros_cache_net.testing import ManualClock

PATIENCE_S = 300.0


@pytest.fixture(name="clock")
def new_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="told")
def what_was_told() -> list[str]:
    return []


@pytest.fixture(name="keys")
def new_agreement(clock: ManualClock, told: list[str]) -> KeyAgreement:
    return KeyAgreement(clock, PATIENCE_S, lambda: told.append("locked out"), lambda: told.append("let in"))


def test_who_has_heard_nothing_is_locked_out_by_the_first_message_and_told_once(
    keys: KeyAgreement, told: list[str]
) -> None:
    keys.refused()
    keys.refused()
    assert told == ["locked out"]


def test_strangers_do_not_lock_out_who_hears_the_others(
    keys: KeyAgreement, clock: ManualClock, told: list[str]
) -> None:
    for _ in range(10):
        keys.opened()
        clock.advance(PATIENCE_S)
        keys.refused()
    assert told == []


def test_who_is_left_behind_by_a_rotation_is_locked_out_after_a_while(
    keys: KeyAgreement, clock: ManualClock, told: list[str]
) -> None:
    keys.opened()
    clock.advance(PATIENCE_S + 1)
    assert told == []
    keys.refused()
    assert told == ["locked out"]


def test_silence_locks_nobody_out(keys: KeyAgreement, clock: ManualClock, told: list[str]) -> None:
    clock.advance(10 * PATIENCE_S)
    keys.opened()
    assert told == []


def test_the_first_message_that_can_be_opened_lets_in_again_and_no_other(keys: KeyAgreement, told: list[str]) -> None:
    keys.refused()
    keys.opened()
    keys.opened()
    keys.refused()
    assert told == ["locked out", "let in"]


def test_a_new_link_begins_anew(keys: KeyAgreement, told: list[str]) -> None:
    keys.opened()
    keys.link_up(alone=False)
    keys.refused()
    keys.link_up(alone=False)
    keys.refused()
    assert told == ["locked out"] * 2
    keys.link_up(alone=False)
    keys.opened()
    assert told == ["locked out"] * 2


def test_who_was_there_first_is_not_locked_out_by_who_comes_with_another_key(
    keys: KeyAgreement, clock: ManualClock, told: list[str]
) -> None:
    keys.link_up(alone=True)
    keys.refused()
    assert told == []
    clock.advance(PATIENCE_S + 1)
    keys.refused()
    assert told == ["locked out"]
