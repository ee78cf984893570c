"""Each token once and while it is young, in bounded memory, whichever way clocks go."""

from __future__ import annotations

import base64

import pytest
from cryptography.fernet import Fernet

from miros_cache_net.errors import FromTheFuture, Replayed, TooOld
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire.token_window import TokenWindow

FERNET = Fernet(Fernet.generate_key())
NOW_S = 1_700_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_ms=NOW_S * 1000)


@pytest.fixture
def window(clock: ManualClock) -> TokenWindow:
    return TokenWindow(clock, age_s=300.0)


def made_at(second: int) -> bytes:
    return FERNET.encrypt_at_time(b"event", second)


@pytest.mark.parametrize("age_s", [0, 300, -60])
def test_a_young_token_is_taken_once(window: TokenWindow, age_s: int) -> None:
    token = made_at(NOW_S - age_s)
    window.check(token)
    with pytest.raises(Replayed):
        window.check(token)


@pytest.mark.parametrize(
    ("age_s", "error"), [(301, TooOld), (10 * 365 * 86_400, TooOld), (-61, FromTheFuture), (-86_400, FromTheFuture)]
)
def test_a_token_of_another_time_is_refused(window: TokenWindow, age_s: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        window.check(made_at(NOW_S - age_s))
    assert not len(window)


def test_token_spelt_otherwise_is_the_same_token(window: TokenWindow) -> None:
    token = made_at(NOW_S)
    window.check(token)
    for spelling in (token[:50] + b"\n" + token[50:], token + b"=", b"!" + token):
        assert FERNET.decrypt(spelling) == b"event" or spelling[:1] == b"!"
        with pytest.raises(Replayed):
            window.check(spelling)
    assert base64.urlsafe_b64decode(token[:50] + b"\n" + token[50:]) == base64.urlsafe_b64decode(token)


def test_two_tokens_of_one_second_are_two(window: TokenWindow) -> None:
    window.check(made_at(NOW_S))
    window.check(made_at(NOW_S))
    assert len(window) == 2


def test_token_from_before_the_start_is_too_old(clock: ManualClock) -> None:
    window = TokenWindow(clock, not_before_s=NOW_S - 10)
    window.check(made_at(NOW_S - 10))
    with pytest.raises(TooOld):
        window.check(made_at(NOW_S - 11))


def test_tokens_are_forgotten_with_their_age(window: TokenWindow, clock: ManualClock) -> None:
    token = made_at(NOW_S)
    window.check(token)
    clock.advance(301)
    window.check(made_at(NOW_S + 301))
    assert len(window) == 1
    with pytest.raises(TooOld):
        window.check(token)


def test_clock_that_goes_back_renews_no_token(window: TokenWindow, clock: ManualClock) -> None:
    token = made_at(NOW_S)
    window.check(token)
    clock.jump_wall(3_600_000)
    window.check(made_at(NOW_S + 3600))
    clock.jump_wall(-3_600_000)
    with pytest.raises(TooOld):
        window.check(token)
    window.check(made_at(NOW_S + 1))


def test_flood_forgets_only_the_earliest_tokens(clock: ManualClock) -> None:
    window = TokenWindow(clock, most=20)
    tokens = [made_at(NOW_S - 40 + second) for second in range(40)]
    for token in tokens:
        window.check(token)
        assert len(window) <= 20
    for token in tokens:
        with pytest.raises((Replayed, TooOld)):
            window.check(token)
