from __future__ import annotations

import copy
import json
import pickle
from enum import Enum
from typing import Any

import pytest

from miros_cache_net import limits, strict_json
from miros_cache_net.document import META_KEY, Document, Stamp, next_stamp
from miros_cache_net.errors import DocumentError, PayloadError

NOW = 1_700_000_000_000


def stamp(ms: int, node: str = "alpha") -> Stamp:
    return Stamp(ms, 0, node)


def written(contents: dict[str, Any], at: int = NOW, discovered: int = NOW) -> Document:
    return Document.unwritten({}).written(contents, stamp(at), discovered)


def test_a_default_document_shows_its_contents_but_is_expired_and_infinitely_old() -> None:
    document = Document.unwritten({"addresses": []})
    assert document.contents == {"addresses": []}
    assert document.expired(NOW)
    assert document.age_s(NOW) == float("inf")
    assert document.origin == ""


def test_a_written_document_without_time_out_never_expires() -> None:
    assert not written({"a": 1}).expired(NOW + 10**14)


@pytest.mark.parametrize(
    ("minutes", "after_s", "expired"),
    [
        (1, 59, False),
        (1, 61, True),
        (0, 0, True),
        (0.5, 29, False),
        (0.5, 31, True),
        (-1, 0, True),
        (10**400, 10**9, False),
        (1e308, 10**9, False),
        ("30", 0, True),
        (None, 0, True),
        (True, 0, True),
        ([30], 0, True),
    ],
)
def test_expiry_follows_the_time_out_and_the_age_of_the_discovery(minutes: Any, after_s: int, expired: bool) -> None:
    assert written({"time_out_in_minutes": minutes}).expired(NOW + after_s * 1000) is expired


@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000])
def test_age_is_never_negative_whatever_the_clock_does(jump_ms: int) -> None:
    assert written({}).age_s(NOW + jump_ms) == max(0, jump_ms) / 1000


def test_an_update_changes_single_keys_and_does_not_make_the_document_younger() -> None:
    document = written({"a": 1, "b": 2}).updated({"a": 3}, ["b"], stamp(NOW + 60_000), NOW + 60_000)
    assert document.contents == {"a": 3}
    assert document.age_s(NOW + 60_000) == 60


def test_an_update_of_a_document_nobody_wrote_counts_as_a_whole_write() -> None:
    document = Document.unwritten({"a": 1, "b": 2}).updated({"c": 3}, ["b"], stamp(NOW), NOW)
    assert document.contents == {"a": 1, "c": 3}
    assert document.floor == (stamp(NOW), NOW)
    assert not document.expired(NOW)


def test_a_destroyed_document_is_empty_and_expired_everywhere() -> None:
    old = written({"a": 1})
    gone = old.destroyed(stamp(NOW + 1))
    assert old.merged(gone).contents == {}
    assert old.merged(gone).expired(NOW)


def test_a_tombstone_outlives_the_value_it_deletes_and_dies_below_the_next_floor() -> None:
    old = written({"a": 1})
    deleted = old.updated({}, ["a"], stamp(NOW + 1), NOW)
    assert old.merged(deleted).contents == {}
    assert deleted.entries["a"].deleted
    rewritten = deleted.merged(written({"b": 1}, NOW + 2))
    assert "a" not in rewritten.entries


def test_setting_and_deleting_one_key_at_once_is_refused() -> None:
    with pytest.raises(PayloadError, match="both set and deleted"):
        written({}).updated({"a": 1}, ["a"], stamp(NOW), NOW)


def test_the_reserved_key_is_never_part_of_what_is_written() -> None:
    document = written({"a": 1, META_KEY: {"format": 99}})
    assert document.contents == {"a": 1}


def test_the_contents_are_immutable_and_a_deep_copy_is_not() -> None:
    contents = written({"a": [1, {"b": 2}]}).contents
    for change in (
        lambda: contents.update(x=1),
        lambda: contents["a"].append(1),
        lambda: contents["a"][1].pop("b"),
        lambda: contents.__setitem__("a", 1),
    ):
        with pytest.raises(TypeError, match="deepcopy"):
            change()
    for own in (copy.deepcopy(contents), pickle.loads(pickle.dumps(contents))):
        own["a"][1]["b"] = 3
    assert contents == {"a": [1, {"b": 2}]}
    assert json.loads(json.dumps(contents)) == contents


@pytest.mark.parametrize(
    "value",
    [{"a": float("nan")}, {"a": float("inf")}, {1: 2}, {"a": {1, 2}}, {"a": "\ud800"}, {"a": b"x"}, {"a": 1 << 20_000}],
)
def test_what_json_cannot_hold_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(PayloadError, match="the document"):
        written(value)


def test_caps_on_depth_keys_and_key_length() -> None:
    deep: Any = 1
    for _ in range(limits.DOCUMENT_DEPTH + 1):
        deep = [deep]
    for value in ({"a": deep}, {"k" * 2000: 1}, {str(n): 0 for n in range(limits.DOCUMENT_KEYS + 1)}):
        with pytest.raises(PayloadError):
            written(value)


def test_what_may_be_written_can_be_read_back_at_the_very_limit_of_depth() -> None:
    value: Any = []
    for _ in range(limits.DOCUMENT_DEPTH - 2):
        value = [value]
    document = written({"a": value})
    assert Document.from_json(strict_json.loads(document.to_text())) == document
    with pytest.raises(PayloadError, match="deeper"):
        written({"a": [value]})


def test_text_enums_are_stored_as_their_text() -> None:
    class Colour(str, Enum):
        RED = "red"

    assert written({Colour.RED: Colour.RED}).to_text().startswith(b'{"red":"red"')


def test_stamps_rise_on_one_node_even_when_the_clock_stands_or_falls_back() -> None:
    first = next_stamp(Stamp(0, 0, ""), NOW, "alpha")
    assert next_stamp(first, NOW, "alpha") > first
    assert next_stamp(first, NOW - 10_000, "alpha") > first
    full = Stamp(NOW, limits.STAMP_COUNTER, "alpha")
    assert next_stamp(full, NOW, "alpha") == Stamp(NOW + 1, 0, "alpha")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        5,
        None,
        "0" * 12,
        "00000000000g.0000.a",
        "000000000001.0000.A B",
        "000000000001.0000.",
        "+00000000001.0000.a",
    ],
)
def test_a_malformed_stamp_is_refused(text: Any) -> None:
    with pytest.raises(DocumentError):
        Stamp.parse(text)


def broken(**changes: Any) -> dict[str, Any]:
    value = written({"a": 1}).to_json()
    value[META_KEY] = {**value[META_KEY], **changes}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {META_KEY: 1},
        broken(format=2),
        broken(floor="x"),
        broken(floor=str(stamp(NOW + 1)), stamps={"a": str(stamp(NOW))}),
        broken(discovered_at_ms=-1),
        broken(discovered_at_ms=1.5),
        broken(discovered_at_ms=True),
        broken(stamps=[]),
        broken(stamps={"z": str(stamp(NOW + 1))}),
        broken(deleted={"a": str(stamp(NOW + 1))}),
        broken(deleted={"b": "never"}),
    ],
)
def test_broken_metadata_is_refused(value: Any) -> None:
    with pytest.raises(DocumentError):
        Document.from_json(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b'{"a":', "not JSON"),
        (b'{"a":1,"a":2}', "stands twice"),
        (b'{"b":{"a":1,"a":2}}', "stands twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"[" * 100_000, "deeper"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper"),
        (b"9" * 5000, "not JSON"),
        (b" " * (limits.DOCUMENT_BYTES + 1), "more than"),
    ],
)
def test_text_that_other_parsers_might_read_differently_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(DocumentError, match=why):
        strict_json.loads(text)


def test_sixty_four_levels_are_still_read() -> None:
    assert strict_json.loads(b"[" * 64 + b"]" * 64)


def test_a_byte_order_mark_is_no_reason_to_refuse_a_persons_file() -> None:
    assert strict_json.loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


def test_stamps_from_before_the_clock_was_set_back_are_given_anew_in_their_order() -> None:
    hour = 3_600_000
    future = written({"a": 1}, NOW + hour, NOW + hour).updated({"b": 2}, ["a"], stamp(NOW + hour + 5), NOW)
    now = future.restamped(NOW, "alpha")
    assert now.contents == future.contents
    assert now.ahead_ms(NOW) <= 0
    assert now.floor.stamp < now.entries["b"].stamp == now.entries["a"].stamp
    assert now.age_s(NOW) == 0
    assert now.restamped(NOW, "alpha") is now


def test_only_the_stamps_that_lie_ahead_are_given_anew() -> None:
    mixed = written({"a": 1, "b": 2}).updated({"b": 3}, [], stamp(NOW + 3_600_000), NOW)
    now = mixed.restamped(NOW, "alpha")
    assert now.floor == mixed.floor
    assert now.entries["a"] == mixed.entries["a"]
    assert mixed.entries["a"].stamp < now.entries["b"].stamp < stamp(NOW + 1)
