from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import MalformedMessage, PayloadError, WrongVersion
from miros_cache_net.wire.envelope import Message, Origin, decode, encode
from miros_cache_net.wire.kinds import KINDS

MESSAGE = Message(
    kind="CACHE",
    scope="lab/192.168.1.0%2F24",
    document="peers",
    message_id="b00f-7",
    origin=Origin("alpha", "Alpha.example", "b00f", 7),
    sent_ms=1_700_000_000_000,
    body={"addresses": ["10.0.0.1", "ä"], "n": 1.5},
    answers="cafe-3",
)


def with_field(name: str, value: Any) -> bytes:
    return json.dumps({**json.loads(encode(MESSAGE)), name: value}).encode()


def without_field(name: str) -> bytes:
    fields = json.loads(encode(MESSAGE))
    del fields[name]
    return json.dumps(fields).encode()


def test_what_was_encoded_decodes_to_the_same_message() -> None:
    assert decode(encode(MESSAGE)) == MESSAGE


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_there_is_can_be_sent(kind: str) -> None:
    assert decode(encode(replace(MESSAGE, kind=kind))).kind == kind


def test_encoding_is_compact_json_with_version_2_fields() -> None:
    text = encode(MESSAGE)
    assert b" " not in text
    assert "ä".encode() in text
    fields = ["answers", "body", "boot", "document", "host", "id", "kind", "node", "scope", "sent_ms", "seq", "v"]
    assert sorted(json.loads(text)) == fields
    assert json.loads(text)["v"] == 2


def test_field_of_a_later_release_is_passed_over() -> None:
    assert decode(with_field("hop", [1, 2])) == MESSAGE


@pytest.mark.parametrize("version", [0, 1, 3, 10**30, -1, -(10**300)])
def test_another_version_is_told_from_a_malformed_message(version: int) -> None:
    with pytest.raises(WrongVersion, match="same release") as caught:
        decode(json.dumps({"v": version, "all": "else is different"}).encode())
    assert len(str(caught.value)) < 200


def test_release_with_only_version_1_is_named() -> None:
    with pytest.raises(WrongVersion, match="a message of format version 1, this release reads 2"):
        decode(with_field("v", 1))


def test_message_that_answers_nothing_has_empty_id() -> None:
    assert decode(encode(replace(MESSAGE, answers=""))).answers == ""


@pytest.mark.parametrize("version", ["1", 1.0, True, None, [1]])
def test_a_version_that_is_no_number_is_malformed(version: object) -> None:
    with pytest.raises(MalformedMessage):
        decode(with_field("v", version))


@pytest.mark.parametrize(
    "name", ["v", "kind", "scope", "document", "id", "answers", "node", "host", "boot", "seq", "sent_ms", "body"]
)
def test_a_missing_field_is_malformed(name: str) -> None:
    with pytest.raises(MalformedMessage):
        decode(without_field(name))


BAD_FIELDS: list[tuple[str, Any]] = [
    ("kind", "cache"),
    ("kind", "STOP_ACTIVE_OBJECT_SIGNAL"),
    ("kind", ["CACHE"]),
    ("kind", {}),
    ("scope", ""),
    ("scope", 5),
    ("scope", "x" * (limits.PLACE_WORD_BYTES + 1)),
    ("scope", "a\x1b[2J"),
    ("document", "ä" * 128),
    ("document", "a\nb"),
    ("id", "x" * (limits.MESSAGE_ID_BYTES + 1)),
    ("id", None),
    ("answers", None),
    ("answers", 5),
    ("answers", "x" * (limits.MESSAGE_ID_BYTES + 1)),
    ("answers", "a\nb"),
    ("node", "Alpha"),
    ("node", "x" * (limits.NODE_NAME_BYTES + 1)),
    ("node", {"a": 1}),
    ("host", "h" * (limits.HOST_NAME_BYTES + 1)),
    ("host", "a\u202eb"),
    ("boot", ""),
    ("seq", -1),
    ("seq", 2**63),
    ("seq", 1.0),
    ("seq", True),
    ("seq", "1"),
    ("sent_ms", -1),
    ("sent_ms", limits.STAMP_WALL_MS + 1),
    ("sent_ms", 1.5),
    ("sent_ms", None),
]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(BAD_FIELDS)])
def test_invalid_field_is_malformed(name: str, value: Any) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(with_field(name, value))
    assert "\n" not in str(caught.value)


def deep(levels: int) -> bytes:
    return encode(MESSAGE).replace(b'"peers"', b'"peers","hop":' + b"[" * levels + b"]" * levels)


NOT_STRICT = {
    "empty": b"",
    "no JSON": b"{",
    "an array": b"[]",
    "a number": b"1",
    "no UTF-8": encode(MESSAGE).replace("ä".encode(), b"\xff"),
    "a key twice": encode(MESSAGE).replace(b'"v":2', b'"v":2,"v":2'),
    "NaN": encode(MESSAGE).replace(b"1.5", b"NaN"),
    "infinity": encode(MESSAGE).replace(b"1.5", b"1e999"),
    "a huge number": encode(MESSAGE).replace(b"1.5", b"9" * 5000),
    "half a surrogate": encode(MESSAGE).replace("ä".encode(), b"\\ud800"),
    "too deep": deep(limits.MESSAGE_DEPTH),
    "far too deep": deep(500_000),
    "two texts": encode(MESSAGE) * 2,
}


@pytest.mark.parametrize("text", NOT_STRICT.values(), ids=NOT_STRICT.keys())
def test_malformed_text_is_refused_and_not_repeated(text: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(text)
    assert "peers" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_deepest_document_fits_into_a_message() -> None:
    value: Any = 1
    for _ in range(limits.DOCUMENT_DEPTH - 1):
        value = [value]
    document = Document.unwritten({}).written({"deep": value}, Stamp(1, 0, "alpha"), 1)
    message = replace(MESSAGE, body={"document": document.to_json()})
    assert Document.from_json(decode(encode(message)).body["document"]) == document


def test_a_body_arrives_frozen() -> None:
    body = decode(encode(MESSAGE)).body
    with pytest.raises(TypeError):
        body["addresses"] = []


@pytest.mark.parametrize(
    "broken",
    [
        replace(MESSAGE, kind="gossip"),
        replace(MESSAGE, scope=""),
        replace(MESSAGE, answers="x" * 65),
        replace(MESSAGE, origin=MESSAGE.origin._replace(node="Not a node")),
        replace(MESSAGE, sent_ms=-1),
        replace(MESSAGE, body=float("nan")),
        replace(MESSAGE, body={1, 2}),
        replace(MESSAGE, body="\ud800"),
    ],
    ids=["kind", "scope", "answers", "node", "time", "NaN", "set", "surrogate"],
)
def test_what_no_receiver_would_take_is_not_sent(broken: Message) -> None:
    with pytest.raises(PayloadError, match="cannot be sent"):
        encode(broken)
