from __future__ import annotations

import logging
import pickle
import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_cache_net import limits
from miros_cache_net.errors import (
    MalformedMessage,
    NotAuthentic,
    PayloadError,
    Replayed,
    TooLarge,
    UnknownKey,
    WireError,
    WrongPlace,
    WrongVersion,
)
from miros_cache_net.observe.families import REFUSED
from miros_cache_net.observe.registry import Registry
from miros_cache_net.wire import gate as gate_module
from miros_cache_net.wire.envelope import Message, Origin, encode
from miros_cache_net.wire.gate import Gate, Sealed
from miros_cache_net.wire.keyring import KeyRing, RingProvider, generate_key, key_id
from miros_cache_net.wire.kinds import KINDS, REQUESTS
from miros_cache_net.wire.refusals import Refusals
from miros_cache_net.wire.replay import ReplayWindow
from tests.threads import logged_here

NOW_MS = 1_700_000_000_000
KEY = generate_key()
RING = KeyRing((KEY,))


class HandClock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.wall = NOW_MS
        self.monotonic = 1000.0

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_s(self) -> float:
        return self.monotonic

    def pass_s(self, seconds: float) -> None:
        self.wall += int(seconds * 1000)
        self.monotonic += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def key_words(key: str) -> Sequence[str] | None:
    return key.split(".")[1:] if key.startswith("cache.") else None


def gate_of(
    node: str, clock: HandClock, rings: RingProvider = lambda: RING, scope: str = "fleet", document: str = "peers"
) -> Gate:
    return Gate(rings, scope=scope, document=document, node=node, host=node, key_words=key_words, clock=clock)


@pytest.fixture
def alpha(clock: HandClock) -> Gate:
    return gate_of("alpha", clock)


@pytest.fixture
def beta(clock: HandClock) -> Gate:
    return gate_of("beta", clock)


def message(kind: str = "CACHE", **changes: Any) -> Message:
    whole = Message(kind, "fleet", "peers", "id-1", Origin("gamma", "gamma", "boot", 1), NOW_MS, {"a": 1})
    return replace(whole, **changes)


def refused(gate: Gate, error: type[WireError], raw: bytes, **hints: str) -> str:
    """The line that `gate` refuses with; it counts one more under the error's name and nothing else."""
    before = gate.counters
    with pytest.raises(error) as caught:
        gate.open(raw, **hints)
    assert type(caught.value) is error
    assert dict(gate.counters - before) == {error.counter: 1}
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_seals_another_opens(kind: str, alpha: Gate, beta: Gate) -> None:
    sealed = alpha.seal(kind, {"addresses": ["10.0.0.1"]})
    opened = beta.open(sealed.body, routing_key=f"cache.fleet.peers.{kind}", key_id=sealed.key_id)
    assert (opened.kind, opened.body, opened.message_id) == (kind, {"addresses": ["10.0.0.1"]}, sealed.message_id)
    assert opened.origin == Origin("alpha", "alpha", alpha.boot, 0)
    assert opened.sent_ms == NOW_MS
    assert not beta.counters


def test_an_answer_names_the_request(alpha: Gate, beta: Gate) -> None:
    request = beta.open(alpha.seal("CACHE_FILE_READ").body)
    assert request.answers == ""
    assert alpha.open(beta.seal("answer", answers=request.message_id).body).answers == request.message_id


def test_nothing_of_a_message_can_be_read_outside(alpha: Gate) -> None:
    sealed = alpha.seal("CACHE", {"addresses": ["10.0.0.1"]})
    data = Fernet(KEY).decrypt(sealed.body)
    for text in (b"CACHE", b"fleet", b"peers", b"alpha", b"10.0.0.1"):
        assert text in data
        assert text not in sealed.body


def test_messages_count_up_and_have_distinct_ids(alpha: Gate, beta: Gate) -> None:
    sent = [alpha.seal("CACHE") for _ in range(3)] + [beta.seal("CACHE")]
    assert [beta.open(each.body).origin.sequence for each in sent[:3]] == [0, 1, 2]
    assert len({each.message_id for each in sent}) == 4


def test_own_message_differs_from_a_namesakes(clock: HandClock, alpha: Gate) -> None:
    again = gate_of("alpha", clock)
    opened = again.open(alpha.seal("CACHE").body)
    assert alpha.is_own(opened)
    assert not again.is_own(opened)
    # a node that starts while somebody else is in its file learns its name only then
    assert alpha.is_own(replace(opened, origin=opened.origin._replace(node="none")))


def test_many_threads_seal_without_repeating_an_id(alpha: Gate) -> None:
    sealed: list[Sealed] = []
    threads = [
        threading.Thread(target=lambda: sealed.extend(alpha.seal("CACHE") for _ in range(200))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.message_id for each in sealed}) == 800


# --- what is refused ------------------------------------------------------------------------------


def test_wrong_key_is_named_beside_our_keys(beta: Gate) -> None:
    other = generate_key()
    line = refused(beta, UnknownKey, Fernet(other).encrypt(encode(message())), key_id=key_id(other))
    assert key_id(other) in line
    assert RING.primary_id in line


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0",
        b"gAAAAA",
        b"gAAAAA" * 100,
        b"{}",
        encode(message()),
        pickle.dumps(("10.0.0.1", "event")),
        b"\xff" * 99,
    ],
    ids=["nothing", "NUL", "head", "heads", "JSON", "unencrypted", "pickle", "bytes"],
)
def test_what_no_key_opens_is_not_authentic(raw: bytes, beta: Gate) -> None:
    refused(beta, UnknownKey if raw.startswith(b"gAAAAA") else NotAuthentic, raw)


def test_pickle_is_never_loaded(beta: Gate) -> None:
    bomb = b"cbuiltins\nexec\n(S'raise SystemExit'\ntR."
    with pytest.raises(SystemExit):
        pickle.loads(bomb)
    refused(beta, NotAuthentic, bomb)
    refused(beta, MalformedMessage, RING.encrypt(bomb))


def test_one_changed_byte_is_noticed_wherever_it_is(alpha: Gate, beta: Gate) -> None:
    body = alpha.seal("CACHE", "x").body
    for place in range(0, len(body) - 4, 7):  # the last characters hold padding, whose bits carry nothing
        changed = bytearray(body)
        changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
        refused(beta, UnknownKey if changed.startswith(b"gAAAAA") else NotAuthentic, bytes(changed))


def test_too_large_body_is_refused_before_decryption(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = gate_of("beta", clock, rings=lambda: pytest.fail("decrypted"))
    monkeypatch.setattr(limits, "BODY_BYTES", 1000)
    refused(gate, TooLarge, b"x" * 1001)


def test_too_large_message_is_refused_before_parsing(beta: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "decode", lambda _data: pytest.fail("parsed"))
    monkeypatch.setattr(limits, "MESSAGE_BYTES", 1000)
    refused(beta, TooLarge, RING.encrypt(b"x" * 1001))


def test_message_that_no_peer_opens_is_never_sealed(alpha: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MESSAGE_BYTES", 1000)
    with pytest.raises(TooLarge):
        alpha.seal("CACHE", "x" * 1000)
    with pytest.raises(PayloadError):
        alpha.seal("gossip")


def test_largest_message_that_seals_can_be_opened(alpha: Gate, beta: Gate) -> None:
    room = limits.MESSAGE_BYTES - len(Fernet(KEY).decrypt(alpha.seal("CACHE", "").body))
    sealed = alpha.seal("CACHE", "x" * room)
    assert len(sealed.body) <= limits.BODY_BYTES
    assert len(beta.open(sealed.body).body) == room
    with pytest.raises(TooLarge):
        alpha.seal("CACHE", "x" * (room + 1))


def test_decrypted_text_must_still_be_a_message(beta: Gate) -> None:
    for data in (b"", b"{}", b"[" * 100_000, b'{"v":2}', encode(message())[:-1]):
        refused(beta, MalformedMessage, RING.encrypt(data))
    refused(beta, WrongVersion, RING.encrypt(encode(message()).replace(b'"v":2', b'"v":3')))


@pytest.mark.parametrize("place", [{"scope": "other"}, {"document": "other"}, {"scope": "peers", "document": "fleet"}])
def test_a_message_for_another_place_is_refused(place: dict[str, str], beta: Gate, clock: HandClock) -> None:
    refused(beta, WrongPlace, RING.encrypt(encode(message(**place))))
    refused(beta, WrongPlace, gate_of("alpha", clock, **place).seal("CACHE").body)


@pytest.mark.parametrize(
    "key", ["cache.fleet.peers.digest", "cache.other.peers.CACHE", "cache.fleet.other.CACHE", "cache.fleet", "cache."]
)
def test_contradictory_routing_key_is_refused(key: str, alpha: Gate, beta: Gate) -> None:
    refused(beta, WrongPlace, alpha.seal("CACHE").body, routing_key=key)


def test_routing_key_of_a_queue_says_nothing(alpha: Gate, beta: Gate) -> None:
    assert beta.open(alpha.seal("answer").body, routing_key="amq.gen-1").kind == "answer"


def test_version_is_checked_before_the_place(beta: Gate) -> None:
    refused(beta, WrongVersion, RING.encrypt(encode(message(scope="other")).replace(b'"v":2', b'"v":3')))


def test_a_request_for_another_place_is_not_remembered(beta: Gate) -> None:
    refused(beta, WrongPlace, RING.encrypt(encode(message("CACHE_FILE_READ", scope="other"))))
    assert beta.open(RING.encrypt(encode(message("CACHE_FILE_READ")))).kind == "CACHE_FILE_READ"


# --- replays --------------------------------------------------------------------------------------


def test_request_is_taken_once_and_state_always(alpha: Gate, beta: Gate) -> None:
    for kind in KINDS:
        body = alpha.seal(kind).body
        beta.open(body)
        for _ in range(100):
            if kind in REQUESTS:
                assert "before" in refused(beta, Replayed, body)
            else:
                beta.open(body)


def test_requests_are_kinds_that_nodes_answer() -> None:
    assert {"CACHE_FILE_READ", "status_request", "trace_request", "challenge"} == REQUESTS


@pytest.mark.parametrize("age_s", [7 * 86_400, 3600, -3600])
@pytest.mark.parametrize("kind", sorted(REQUESTS))
def test_a_request_of_any_age_is_taken_once(kind: str, age_s: int, alpha: Gate, beta: Gate, clock: HandClock) -> None:
    body = alpha.seal(kind).body
    clock.pass_s(age_s)
    assert beta.open(body).kind == kind
    assert "before" in refused(beta, Replayed, body)


def test_request_is_remembered_for_the_window(clock: HandClock) -> None:
    window, request = ReplayWindow(clock), message("challenge")
    window.check(request)
    clock.pass_s(limits.REPLAY_WINDOW_S)
    with pytest.raises(Replayed):
        window.check(request)
    clock.pass_s(1)
    window.check(request)


def test_jumping_wall_clock_lets_no_request_in_twice(clock: HandClock) -> None:
    window = ReplayWindow(clock)
    request = message("challenge")
    window.check(request)
    clock.wall += 3_600_000
    window.check(message("challenge", message_id="id-2", sent_ms=clock.wall))
    clock.wall -= 3_600_000
    with pytest.raises(Replayed, match="before"):
        window.check(request)


def test_restarted_sender_is_not_its_former_self(clock: HandClock) -> None:
    window = ReplayWindow(clock)
    window.check(message("CACHE_FILE_READ"))
    window.check(message("CACHE_FILE_READ", origin=Origin("gamma", "gamma", "next boot", 1)))


def test_old_requests_are_forgotten(clock: HandClock) -> None:
    window = ReplayWindow(clock)
    for number in range(1000):
        window.check(message("CACHE_FILE_READ", message_id=str(number)))
    clock.pass_s(limits.REPLAY_WINDOW_S + 1)
    window.check(message("CACHE_FILE_READ", message_id="last", sent_ms=clock.wall_ms()))
    assert len(window) == 1


def test_flood_of_requests_is_remembered_up_to_bound(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPLAY_IDS", 100)
    window = ReplayWindow(clock)
    for number in range(10_000):
        window.check(message("CACHE_FILE_READ", message_id=str(number)))
    assert len(window) == 100
    with pytest.raises(Replayed):
        window.check(message("CACHE_FILE_READ", message_id="9950"))


# --- counters and log -----------------------------------------------------------------------------


def test_counters_are_a_copy_that_nobody_can_spoil(beta: Gate) -> None:
    refused(beta, NotAuthentic, b"x")
    beta.counters["not_authentic"] = 99
    assert beta.counters == {"not_authentic": 1}


def test_flood_is_counted_exactly_and_logged_once(
    beta: Gate, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    def flood() -> None:
        for _ in range(1000):
            with pytest.raises(WireError):
                beta.open(b"SECRET garbage")
        with pytest.raises(WireError):
            beta.open(RING.encrypt(b"SECRET words"))

    with caplog.at_level(logging.DEBUG):
        flood()
        clock.pass_s(limits.REFUSAL_LOG_S - 1)
        flood()
        assert len(logged_here(caplog)) == 2
        clock.pass_s(1)
        flood()
    assert beta.counters == {"not_authentic": 3000, "malformed": 3}
    assert len(logged_here(caplog)) == 4
    assert "SECRET" not in caplog.text
    third = logged_here(caplog)[2].getMessage()
    assert "not_authentic" in third and "and 1999 more" in third


def test_first_refusal_is_logged_even_after_boot(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    clock.monotonic = 0.5
    Refusals(Registry().labelled(REFUSED), clock).note(NotAuthentic("x"))
    assert len(logged_here(caplog)) == 1


def test_counting_from_many_threads_loses_nothing(beta: Gate) -> None:
    def garbage() -> None:
        for _ in range(500):
            with pytest.raises(WireError):
                beta.open(b"garbage")

    threads = [threading.Thread(target=garbage) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert beta.counters == {"not_authentic": 2000}


def test_a_flood_of_garbage_leaves_no_memory_behind(beta: Gate) -> None:
    def garbage(count: int) -> None:
        for number in range(count):
            with pytest.raises(WireError):
                beta.open(b"gAAAAA%d" % number, key_id=f"{number:08x}", routing_key=str(number))

    garbage(100)
    tracemalloc.start()
    try:
        garbage(100)
        before = tracemalloc.get_traced_memory()[0]
        garbage(3000)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


def test_changed_ring_is_used_from_next_message_on(clock: HandClock) -> None:
    new = generate_key()
    rings = [RING]
    alpha, beta = gate_of("alpha", clock, lambda: rings[0]), gate_of("beta", clock)
    assert alpha.seal("CACHE").key_id == RING.primary_id
    rings[0] = KeyRing((new, KEY))
    sealed = alpha.seal("CACHE")
    assert sealed.key_id == key_id(new)
    refused(beta, UnknownKey, sealed.body, key_id=sealed.key_id)
    assert alpha.open(beta.seal("CACHE").body).origin.node == "beta"
