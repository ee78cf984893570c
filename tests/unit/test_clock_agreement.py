"""Who has agreed with another host lately trusts its clock; who has not, or has set it since, does not."""

from __future__ import annotations

import pytest

from miros_cache_net import limits
from miros_cache_net.fleet.clock_agreement import ClockAgreement
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire.envelope import DIGEST, Message, Origin

CLOCK_MS = 1_700_000_000_000


@pytest.fixture(name="clock")
def new_clock() -> ManualClock:
    return ManualClock(wall_ms=CLOCK_MS)


def message(sent_ms: int) -> Message:
    return Message(DIGEST, "scope", "document", "id", Origin("beta-1", "beta", "boot", 0), sent_ms)


def test_without_a_word_from_another_host_nothing_is_proven(clock: ManualClock) -> None:
    assert not ClockAgreement(clock).holds


@pytest.mark.parametrize(
    ("off_s", "holds"),
    [(0, True), (limits.REQUEST_AGE_S, True), (-limits.REQUEST_AGE_S, True), (limits.REQUEST_AGE_S + 1, False),
     (-limits.REQUEST_AGE_S - 1, False)],
)  # fmt: skip
def test_a_message_in_time_proves_it(clock: ManualClock, off_s: float, holds: bool) -> None:
    agreement = ClockAgreement(clock)
    agreement.heard(message(CLOCK_MS + int(off_s * 1000)))
    assert agreement.holds is holds


def test_a_message_out_of_time_takes_nothing_back_and_proof_ends(clock: ManualClock) -> None:
    agreement = ClockAgreement(clock)
    agreement.heard(message(CLOCK_MS))
    agreement.heard(message(0))
    clock.advance(limits.CLOCKS_AGREE_S - 1)
    assert agreement.holds
    clock.advance(1)
    assert not agreement.holds


@pytest.mark.parametrize("by_ms", [limits.CLOCK_AHEAD_MS + 1, -limits.CLOCK_AHEAD_MS - 1])
def test_what_was_proven_of_a_clock_that_was_set_is_proven_no_more(clock: ManualClock, by_ms: int) -> None:
    agreement = ClockAgreement(clock)
    agreement.heard(message(CLOCK_MS))
    clock.jump_wall(by_ms)
    assert not agreement.holds
