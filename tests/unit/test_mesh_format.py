"""The old mesh's events and lines through the door: what old programs send, and what hostile ones do."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miros.event import Event, signals

from miros_cache_net import limits
from miros_cache_net.errors import (
    EventNotSendable,
    FromTheFuture,
    MalformedMessage,
    NotAuthentic,
    Replayed,
    SignalRefused,
    TooLarge,
    TooOld,
    WireError,
)
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire.door import Door
from miros_cache_net.wire.keyring import KeyRing, generate_key
from miros_cache_net.wire.mesh import MeshEvent, MeshEvents, SnoopLines, event_text, seal_event, seal_line
from miros_cache_net.wire.token_window import TokenWindow

RING = KeyRing((generate_key(),))
SENDER = "192.168.1.75"
NOW_S = 1_700_000_000


def check_signal(name: str) -> None:
    if name == "REFUSED":
        raise SignalRefused("not from outside")


@pytest.fixture
def events() -> Door[MeshEvent]:
    return Door(lambda: RING, MeshEvents(TokenWindow(), check_signal))


@pytest.fixture
def lines() -> Door[str]:
    return Door(lambda: RING, SnoopLines(TokenWindow()))


def old_event(event: Event, sender: str = SENDER, protocol: int = 3) -> bytes:
    return RING.encrypt(pickle.dumps((sender, Event.dumps(event)), protocol))


@pytest.mark.parametrize("payload", [None, "alpha", 3, 1.5, True, [1, [2]], {"a": {"b": ["ä"]}}])
def test_an_old_programs_event_is_read(events: Door[MeshEvent], payload: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        token = old_event(Event(signal="B", payload=payload), protocol=protocol)
        assert events.open(token) == MeshEvent(SENDER, "B", payload)


def test_an_old_program_reads_ours() -> None:
    event = Event(signal=signals.ALARM, payload={"a": [1, "ä"]})
    sender, text = pickle.loads(RING.decrypt(seal_event(RING, SENDER, event_text("ALARM", event.payload))))
    assert (sender, text) == (SENDER, Event.dumps(event))
    assert pickle.loads(RING.decrypt(seal_line(RING, "a line"))) == "a line"


def test_a_payload_is_the_receivers_own(events: Door[MeshEvent]) -> None:
    payload = events.open(old_event(Event(signal="B", payload={"a": [1]}))).payload
    payload["a"].append(2)
    assert payload == {"a": [1, 2]} and type(payload) is dict


@pytest.mark.parametrize("payload", [object(), {1, 2}, b"bytes", float("nan"), float("inf"), "\ud800", {(1, 2): 3}])
def test_unsendable_payload_is_a_type_error(payload: Any) -> None:
    with pytest.raises(TypeError) as caught:
        event_text("B", payload)
    assert isinstance(caught.value, EventNotSendable)


def test_what_no_receiver_would_read_is_not_sent() -> None:
    deep: Any = []
    for _ in range(limits.DOCUMENT_DEPTH + 1):
        deep = [deep]
    round_and_round: list[Any] = []
    round_and_round.append(round_and_round)
    for payload in (deep, round_and_round, "x" * limits.MESH_MESSAGE_BYTES, {1: "a", "1": "b"}):
        with pytest.raises(EventNotSendable):
            event_text("B", payload)
    for name in ("", "x" * 256, "line\nbreak"):
        with pytest.raises(EventNotSendable):
            event_text(name)


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("exit 1",)


TEXT = event_text("B")
BODIES = {
    "an unencrypted command": (pickle.dumps(Runs()), NotAuthentic),
    "an encrypted command": (RING.encrypt(pickle.dumps(Runs())), MalformedMessage),
    "a command in a pair": (RING.encrypt(pickle.dumps((SENDER, Runs()))), MalformedMessage),
    "a memo bomb": (b"\x80\x03Nr\xff\xff\xff\x7f.", NotAuthentic),
    "an encrypted memo bomb": (RING.encrypt(b"\x80\x03Nr\xff\xff\xff\x7f."), MalformedMessage),
    "another key": (KeyRing((generate_key(),)).encrypt(b""), NotAuthentic),
    "no address": (seal_event(RING, "beta.lab", TEXT), MalformedMessage),
    "an address with a port": (seal_event(RING, "10.0.0.1:5672", TEXT), MalformedMessage),
    "an empty address": (seal_event(RING, "", TEXT), MalformedMessage),
    "no JSON": (seal_event(RING, SENDER, "B"), MalformedMessage),
    "a list": (seal_event(RING, SENDER, "[]"), MalformedMessage),
    "no payload": (seal_event(RING, SENDER, '{"signal_name": "B"}'), MalformedMessage),
    "a number for a signal": (seal_event(RING, SENDER, '{"signal_name": 8, "payload": null}'), MalformedMessage),
    "a long signal": (seal_event(RING, SENDER, json.dumps({"signal_name": "x" * 256, "payload": 1})), MalformedMessage),
    "NaN": (seal_event(RING, SENDER, '{"signal_name": "B", "payload": NaN}'), MalformedMessage),
    "a deep payload": (
        seal_event(RING, SENDER, '{"signal_name": "B", "payload": %s}' % ("[" * 1000 + "]" * 1000)),
        MalformedMessage,
    ),
    "20 MB": (bytes(20_000_000), TooLarge),
    "20 MB encrypted": (RING.encrypt(bytes(20_000_000)), TooLarge),
    "5 MB inside": (RING.encrypt(bytes(limits.MESH_MESSAGE_BYTES + 1)), TooLarge),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_event_is_refused_and_counted(events: Door[MeshEvent], name: str) -> None:
    body, error = BODIES[name]
    with pytest.raises(error) as caught:
        events.open(body)
    assert events.counters == {caught.value.counter: 1}
    assert len(events._form._window) <= 1  # type: ignore[attr-defined]


def test_a_signal_nobody_may_set_off_is_refused(events: Door[MeshEvent]) -> None:
    with pytest.raises(SignalRefused) as caught:
        events.open(seal_event(RING, SENDER, event_text("REFUSED")))
    assert events.counters == {caught.value.counter: 1}


@pytest.mark.parametrize(("made_s", "error"), [(NOW_S - 10 * 365 * 86_400, TooOld), (NOW_S + 3600, FromTheFuture)])
def test_an_event_of_another_time_is_refused(made_s: int, error: type[WireError]) -> None:
    from cryptography.fernet import Fernet

    key = generate_key()
    ring, clock = KeyRing((key,)), ManualClock(wall_ms=NOW_S * 1000)
    door = Door(lambda: ring, MeshEvents(TokenWindow(clock), check_signal))
    with pytest.raises(error):
        door.open(Fernet(key).encrypt_at_time(pickle.dumps((SENDER, TEXT), 3), made_s))
    assert door.counters == {error.counter: 1}


def test_an_event_sent_twice_is_taken_once(events: Door[MeshEvent]) -> None:
    token = old_event(Event(signal="B"))
    events.open(token)
    with pytest.raises(Replayed):
        events.open(token)


def test_lines_do_nothing_to_a_terminal(lines: Door[str]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert lines.open(RING.encrypt(pickle.dumps("[t] [75c8c] e->B()\n", protocol))) == "[t] [75c8c] e->B()\n"
    coloured = "\033[30;1m# text\033[0m"
    assert lines.open(seal_line(RING, coloured)) == coloured
    assert lines.open(seal_line(RING, "\033]0;title\007\033[2Jx\r\x9b1m\x00")) == "]0;title[2Jx1m"


def test_line_is_cut_where_receivers_would_refuse(lines: Door[str]) -> None:
    long = lines.open(seal_line(RING, "ä" * limits.MESH_LINE_BYTES))
    assert limits.MESH_LINE_BYTES - 100 < len(long.encode()) < limits.MESH_LINE_BYTES


@pytest.mark.parametrize("body", [pickle.dumps(Runs()), RING.encrypt(pickle.dumps(Runs())), RING.encrypt(b"")])
def test_a_hostile_line_is_refused(lines: Door[str], body: bytes) -> None:
    with pytest.raises(WireError):
        lines.open(body)


@given(st.binary(max_size=120))
def test_holder_of_the_key_sends_events_or_fails(data: bytes) -> None:
    door = Door(lambda: RING, MeshEvents(TokenWindow(), check_signal))
    try:
        door.open(RING.encrypt(data))
    except WireError:
        assert door.counters.total() == 1
