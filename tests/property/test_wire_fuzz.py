"""Whatever comes off the wire: a trusted message or a `WireError`, never anything else."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from miros_cache_net import limits
from miros_cache_net.errors import NotAuthentic, WireError
from miros_cache_net.wire.envelope import Message, Origin, decode, encode
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing, generate_key
from miros_cache_net.wire.kinds import KINDS

RING = KeyRing((generate_key(), generate_key()))


def gate_of(node: str) -> Gate:
    return Gate(lambda: RING, scope="fleet", document="peers", node=node, host=node)


ALPHA, BETA = gate_of("alpha"), gate_of("beta")

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=20,
)
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(str.isprintable)
nodes = st.from_regex(r"[a-z0-9-]{1,48}", fullmatch=True)
messages = st.builds(
    Message,
    kind=st.sampled_from(sorted(KINDS)),
    scope=words,
    document=words,
    message_id=st.from_regex(r"[0-9a-f]{1,16}-[0-9]{1,9}", fullmatch=True),
    origin=st.builds(Origin, nodes, words, st.from_regex(r"[0-9a-f]{16}", fullmatch=True), st.integers(0, 2**63 - 1)),
    sent_ms=st.integers(0, limits.STAMP_WALL_MS),
    body=values,
    answers=st.from_regex(r"([0-9a-f]{1,16}-[0-9]{1,9})?", fullmatch=True),
)
FIELDS = ["v", "kind", "scope", "document", "id", "answers", "node", "host", "boot", "seq", "sent_ms", "body"]

#: What parsers disagree on, or choke on; each would stand in a body that is in order otherwise.
NO_JSON = {
    "not a number": "NaN",
    "infinity": "-Infinity",
    "too large a number": "1e999",
    "too long a number": "9" * 4301,
    "half a surrogate pair, escaped": '"\\ud800"',
    "half a surrogate pair": '"\ud800"',
    "a key twice": '{"a":1,"b":2,"a":1}',
    "too deep": "[" * 70 + "]" * 70,
    "a comma too many": "[1,]",
    "a control character": '"\x01"',
}


def opens_or_refuses(raw: bytes, routing_key: str = "", key_id: str = "") -> Message | None:
    before = BETA.counters.total()
    with contextlib.suppress(WireError):
        return BETA.open(raw, routing_key=routing_key, key_id=key_id)
    assert BETA.counters.total() == before + 1
    return None


@given(messages)
def test_every_message_survives_the_round_trip_unchanged(message: Message) -> None:
    data = encode(message)
    assert decode(data) == message
    assert encode(decode(data)) == data


@given(messages)
def test_a_message_for_another_place_is_refused(message: Message) -> None:
    assume((message.scope, message.document) != ("fleet", "peers"))
    assert opens_or_refuses(RING.encrypt(encode(message))) is None


@given(st.sampled_from(sorted(KINDS)), values)
def test_every_json_value_goes_through_the_gate_unchanged(kind: str, body: Any) -> None:
    sealed = ALPHA.seal(kind, body)
    opened = BETA.open(sealed.body, key_id=sealed.key_id)
    assert (opened.kind, opened.body) == (kind, body)
    assert json.dumps(opened.body, sort_keys=True) == json.dumps(body, sort_keys=True)  # 1 is not 1.0, True not 1


@given(st.binary(max_size=4096), st.text(), st.text())
def test_any_bytes_with_any_hints_are_refused(raw: bytes, routing_key: str, key_id: str) -> None:
    assert opens_or_refuses(raw, routing_key, key_id) is None


@given(st.binary(max_size=300))
def test_bytes_that_look_like_a_token_are_refused(raw: bytes) -> None:
    assert opens_or_refuses(base64.urlsafe_b64encode(b"\x80" + bytes(4) + raw)) is None


@given(st.data())
def test_changed_token_is_refused_or_means_the_same(data: st.DataObject) -> None:
    token = ALPHA.seal("CACHE", {"a": 1}).body
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, min(len(token), start + 8)))
    changed = token[:start] + data.draw(st.binary(max_size=8)) + token[end:]
    try:
        opened = BETA.open(changed)
    except NotAuthentic:
        return
    # base64 ignores what is no letter of it: what was authenticated is then the same
    assert opened == BETA.open(token)


@given(st.binary(max_size=4096))
def test_any_bytes_under_the_right_key_are_refused(data: bytes) -> None:
    assert opens_or_refuses(RING.encrypt(data)) is None


@given(st.text())
@example("[" * 200_000)
@example('{"a":' * 50_000)
@example("1" * 100_000)
@example('{"v":1e400}')
@example('{"v":-' + "9" * 4300 + "}")
@example('"\\ud800"')
def test_any_text_under_the_right_key_is_refused(data: str) -> None:
    assert opens_or_refuses(RING.encrypt(data.encode("utf-8", "surrogatepass"))) is None


@given(values)
def test_any_json_under_the_right_key_is_refused(value: Any) -> None:
    assert opens_or_refuses(RING.encrypt(json.dumps(value).encode())) is None


@given(messages, st.sampled_from(sorted(NO_JSON)), values)
def test_message_with_a_bad_value_is_refused(message: Message, wrong: str, right: Any) -> None:
    body = [right, {"here": "@here@"}]
    text = encode(dataclasses.replace(message, scope="fleet", document="peers", body=body)).decode()
    before, here, after = text.rpartition('"@here@"')
    assert here
    assert opens_or_refuses(RING.encrypt(f"{before}{NO_JSON[wrong]}{after}".encode("utf-8", "surrogatepass"))) is None


@given(messages, st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3))
def test_message_with_replaced_fields_opens_whole_or_fails(message: Message, replaced: dict[str, Any]) -> None:
    fields = {**json.loads(encode(message)), "scope": "fleet", "document": "peers", **replaced}
    opened = opens_or_refuses(RING.encrypt(json.dumps(fields).encode()))
    if opened is not None:
        assert (opened.scope, opened.document) == ("fleet", "peers")
        assert decode(encode(opened)) == opened


@given(messages, st.sampled_from(FIELDS))
def test_message_with_a_missing_field_is_refused(message: Message, name: str) -> None:
    fields = {**json.loads(encode(message)), "scope": "fleet", "document": "peers"}
    del fields[name]
    assert opens_or_refuses(RING.encrypt(json.dumps(fields).encode())) is None


@given(messages, st.data())
def test_message_with_changed_bytes_opens_whole_or_fails(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    opens_or_refuses(RING.encrypt(bytes(body)))
