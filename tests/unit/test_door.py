"""The door opens any format by the same order of checks: shown by one that is not the envelope."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_cache_net.errors import (
    MalformedMessage,
    NotAuthentic,
    Replayed,
    TooLarge,
    UnknownKey,
    WireError,
    WrongPlace,
    WrongVersion,
)
from miros_cache_net.wire.door import Door
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing, generate_key

RING, OTHER_RING = KeyRing((generate_key(),)), KeyRing((generate_key(),))


class Pair(NamedTuple):
    """Who sends, and what."""

    sender: str
    event: str


class Pairs:
    """Two lines of text after a version: a format of its own, that takes no token twice."""

    encrypted_bytes = 2000
    message_bytes = 1000

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._taken: set[bytes] = set()

    def parse(self, data: bytes) -> Pair:
        self.asked.append("parse")
        version, _, rest = data.partition(b"\n")
        if version != b"1":
            raise WrongVersion("another version")
        try:
            sender, event = rest.decode().split("\n")
        except ValueError:
            raise MalformedMessage("not two lines") from None
        return Pair(sender, event)

    def admit(self, message: Pair, token: bytes, routing_key: str) -> None:
        self.asked.append("admit")
        if routing_key != message.event:
            raise WrongPlace("the key names another event")
        if token in self._taken:
            raise Replayed("a token that came before")
        self._taken.add(token)


@pytest.fixture
def pairs() -> Pairs:
    return Pairs()


@pytest.fixture
def door(pairs: Pairs) -> Door[Pair]:
    return Door(lambda: RING, pairs)


GOOD = b"1\n10.0.0.1\nHELLO"


def test_a_second_format_goes_through_the_same_door(door: Door[Pair], pairs: Pairs) -> None:
    opened = door.open(RING.encrypt(GOOD), routing_key="HELLO", key_id=RING.primary_id)
    assert opened == Pair("10.0.0.1", "HELLO")
    assert pairs.asked == ["parse", "admit"] and not door.counters


@pytest.mark.parametrize(
    ("token", "error", "asked"),
    [
        (OTHER_RING.encrypt(bytes(2000)), TooLarge, []),
        (b"no token", NotAuthentic, []),
        (OTHER_RING.encrypt(GOOD), UnknownKey, []),
        (RING.encrypt(b"2" + bytes(1001)), TooLarge, []),
        (RING.encrypt(b"2\n"), WrongVersion, ["parse"]),
        (RING.encrypt(b"1\none line"), MalformedMessage, ["parse"]),
        (RING.encrypt(b"1\n10.0.0.1\nANOTHER"), WrongPlace, ["parse", "admit"]),
    ],
    ids=["long", "no token", "unknown key", "long inside", "another version", "one line", "another place"],
)
def test_each_check_comes_before_the_next(
    door: Door[Pair], pairs: Pairs, token: bytes, error: type[WireError], asked: list[str]
) -> None:
    with pytest.raises(error) as caught:
        door.open(token, routing_key="HELLO")
    assert type(caught.value) is error
    assert pairs.asked == asked
    assert door.counters == {error.counter: 1}


def test_format_can_take_no_token_twice(door: Door[Pair]) -> None:
    token = RING.encrypt(GOOD)
    door.open(token, routing_key="HELLO")
    with pytest.raises(Replayed):
        door.open(token, routing_key="HELLO")
    door.open(RING.encrypt(GOOD), routing_key="HELLO")


def test_formats_do_not_take_each_others_messages(door: Door[Pair]) -> None:
    gate = Gate(lambda: RING, scope="fleet", document="d", node="n", host="n")
    with pytest.raises(WrongVersion):
        door.open(gate.seal("CACHE").body)
    with pytest.raises(MalformedMessage):
        gate.open(RING.encrypt(GOOD))


@given(st.binary(max_size=120), st.text(), st.text())
def test_holder_of_the_key_sends_pairs_or_fails(data: bytes, routing_key: str, key_id: str) -> None:
    door = Door(lambda: RING, Pairs())
    try:
        door.open(RING.encrypt(data), routing_key=routing_key, key_id=key_id)
    except WireError:
        assert door.counters.total() == 1
