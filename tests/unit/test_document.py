from __future__ import annotations

import copy
import json
import pickle
from enum import Enum
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.value import META_KEY, Document, Stamp, next_stamp
from miros_cache_net.errors import DocumentError, PayloadError

NOW = 1_700_000_000_000


def stamp(ms: int, node: str = "alpha") -> Stamp:
    return Stamp(ms, 0, node)


def written(contents: dict[str, Any], at: int = NOW, discovered: int = NOW) -> Document:
    return Document.unwritten({}).written(contents, stamp(at), discovered)


def test_default_document_is_expired_and_infinitely_old() -> None:
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
def test_expiry_follows_time_out_and_discovery_age(minutes: Any, after_s: int, expired: bool) -> None:
    assert written({"time_out_in_minutes": minutes}).expired(NOW + after_s * 1000) is expired


@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000])
def test_age_is_never_negative_whatever_the_clock_does(jump_ms: int) -> None:
    assert written({}).age_s(NOW + jump_ms) == max(0, jump_ms) / 1000


def test_update_changes_single_keys_and_keeps_the_age() -> None:
    document = written({"a": 1, "b": 2}).updated({"a": 3}, ["b"], stamp(NOW + 60_000), NOW + 60_000)
    assert document.contents == {"a": 3}
    assert document.age_s(NOW + 60_000) == 60


def test_first_update_keeps_default_and_is_discovered_now() -> None:
    document = Document.unwritten({"a": 1, "b": 2}).updated({"c": 3}, ["b"], stamp(NOW), NOW)
    assert document.contents == {"a": 1, "c": 3}
    assert document.is_written
    assert not document.expired(NOW)
    assert (document.age_s(NOW + 5_000), document.origin) == (5, "alpha")


def test_a_first_update_loses_nothing_that_others_wrote() -> None:
    fleet = written({"a": 1, "honest": True}, NOW - 60_000)
    fresh = Document.unwritten({"a": "default"}).updated({"mine": 3}, [], stamp(NOW, "beta"), NOW)
    for merged in (fleet.merged(fresh), fresh.merged(fleet)):
        assert merged.contents == {"a": 1, "honest": True, "mine": 3}
        assert merged.floor == fleet.floor


def test_the_first_updates_of_two_hosts_both_remain() -> None:
    one = Document.unwritten({"default": 1}).updated({"a": 1}, [], stamp(NOW, "alpha"), NOW)
    other = Document.unwritten({"default": 2}).updated({"b": 2}, [], stamp(NOW - 9_000, "beta"), NOW - 9_000)
    assert one.merged(other).contents == other.merged(one).contents == {"a": 1, "b": 2, "default": 2}


def test_unwritten_default_never_joins_a_first_update() -> None:
    first = Document.unwritten({}).updated({"a": 1}, [], stamp(NOW), NOW)
    assert first.merged(Document.unwritten({"default": 1})) is first


def test_two_updates_after_one_destruction_both_remain() -> None:
    gone = written({"old": 1}).destroyed(stamp(NOW + 1))
    one = gone.updated({"a": 1}, [], stamp(NOW + 2), NOW + 2)
    other = gone.updated({"b": 2}, [], stamp(NOW + 2, "beta"), NOW + 3)
    merged = one.merged(other)
    assert merged.contents == {"a": 1, "b": 2}
    assert merged.floor == (gone.floor.stamp, NOW + 3)
    assert not merged.expired(NOW + 3)


@pytest.mark.parametrize("start", [Document.unwritten({}), written({"a": 1}).destroyed(stamp(NOW))])
def test_update_in_year_1970_is_a_discovery_too(start: Document) -> None:
    assert start.updated({"a": 1}, [], stamp(NOW + 1), 0).floor.discovered_at_ms == 1


def churned(document: Document, keys: int, at: int = NOW + 1) -> Document:
    """After so many keys came and went, one update each."""
    for number in range(keys):
        document = document.updated({}, [f"gone-{number}"], stamp(at), at)
    return document


def test_too_many_deleted_keys_make_a_whole_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOMBSTONES", 3)
    full = churned(written({"a": 1, "b": 2}), 3)
    assert full.floor.stamp == stamp(NOW)
    swallowed = full.updated({"b": 3}, ["a"], stamp(NOW + 2), NOW + 2)
    assert swallowed.contents == {"b": 3}
    assert swallowed.floor == (stamp(NOW + 2), NOW)
    assert list(swallowed.entries) == ["b"]


def test_late_message_brings_nothing_back_below_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOMBSTONES", 0)
    old = written({"a": 1, "b": 2})
    swallowed = old.updated({}, ["a"], stamp(NOW + 1), NOW + 1)
    assert swallowed.merged(old) is swallowed
    assert old.merged(swallowed).contents == {"b": 2}


def test_a_merge_keeps_the_deleted_keys_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOMBSTONES", 3)
    base = written({"a": 1})
    one = base.updated({}, ["x1", "x2", "x3"], stamp(NOW + 1), NOW)
    other = base.updated({}, ["y1", "y2", "y3"], stamp(NOW + 1, "beta"), NOW)
    merged = one.merged(other)
    assert sum(entry.deleted for entry in merged.entries.values()) == 6
    assert Document.from_json(strict_json.loads(merged.to_text())) == merged


def test_deleted_keys_do_not_count_against_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_KEYS", 3)
    full = churned(written({"a": 1, "b": 2, "c": 3}), 10)
    assert Document.from_json(full.to_json()) == full
    with pytest.raises(PayloadError, match="4 keys are more than the 3"):
        full.updated({"d": 4}, [], stamp(NOW + 2), NOW)


def test_keys_may_come_and_go_for_ever() -> None:
    live = [f"key-{number}" for number in range(500)]
    document = written(dict.fromkeys(live, 0))
    for number in range(500, 70_000, 500):
        at = NOW + number
        new = [f"key-{number + each}" for each in range(500)]
        document = document.updated(dict.fromkeys(new, number), live, stamp(at), at)
        assert len(document.contents) == 500
        live = new
    assert document.age_s(NOW + 1_000) == 1
    assert len(document.to_text()) < 1_000_000


def test_an_update_fits_where_its_contents_alone_do(monkeypatch: pytest.MonkeyPatch) -> None:
    document = written({f"key-{number}": number for number in range(100)})
    monkeypatch.setattr(limits, "DOCUMENT_BYTES", len(document.to_text()) + 200)
    for number in range(100):
        document = document.updated({f"key-{number}": 0}, [f"gone-{number}"], stamp(NOW + number + 1), NOW)
        assert document.excess == ""
        assert document.contents[f"key-{number}"] == 0
    with pytest.raises(PayloadError, match="bytes of document are more than"):
        document.updated({"big": "x" * 2_000}, [], stamp(NOW + 200), NOW).to_text()


def test_merge_past_a_cap_says_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    base = written({"a": 1})
    both = base.updated({"b": 1}, [], stamp(NOW + 1), NOW).merged(base.updated({"c": 1}, [], stamp(NOW + 1, "b"), NOW))
    assert both.excess == ""
    monkeypatch.setattr(limits, "DOCUMENT_BYTES", len(both.to_text()) - 1)
    assert (
        both.excess
        == f"{limits.DOCUMENT_BYTES + 1} bytes of document are more than the {limits.DOCUMENT_BYTES} allowed"
    )
    monkeypatch.setattr(limits, "DOCUMENT_KEYS", 2)
    assert both.excess == "3 keys are more than the 2 allowed"


def test_a_destroyed_document_is_empty_and_expired_everywhere() -> None:
    old = written({"a": 1})
    gone = old.destroyed(stamp(NOW + 1))
    assert old.merged(gone).contents == {}
    assert old.merged(gone).expired(NOW)


def test_tombstone_dies_only_below_the_next_floor() -> None:
    old = written({"a": 1})
    deleted = old.updated({}, ["a"], stamp(NOW + 1), NOW)
    assert old.merged(deleted).contents == {}
    assert deleted.entries["a"].deleted
    rewritten = deleted.merged(written({"b": 1}, NOW + 2))
    assert "a" not in rewritten.entries


def test_key_both_set_and_deleted_is_refused() -> None:
    with pytest.raises(PayloadError, match="both set and deleted"):
        written({}).updated({"a": 1}, ["a"], stamp(NOW), NOW)


def test_reserved_key_is_never_written() -> None:
    document = written({"a": 1, META_KEY: {"format": 99}})
    assert document.contents == {"a": 1}


def test_contents_are_immutable_but_a_copy_is_not() -> None:
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
def test_value_that_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(PayloadError, match="the document"):
        written(value)


def test_caps_on_depth_keys_and_key_length() -> None:
    deep: Any = 1
    for _ in range(limits.DOCUMENT_DEPTH + 1):
        deep = [deep]
    for value in ({"a": deep}, {"k" * 2000: 1}, {str(n): 0 for n in range(limits.DOCUMENT_KEYS + 1)}):
        with pytest.raises(PayloadError):
            written(value)


def test_deepest_document_can_be_read_back() -> None:
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


def test_stamps_rise_even_when_the_clock_falls_back() -> None:
    first = next_stamp(Stamp(0, 0, ""), NOW, "alpha")
    assert next_stamp(first, NOW, "alpha") > first
    assert next_stamp(first, NOW - 10_000, "alpha") > first
    full = Stamp(NOW, limits.STAMP_COUNTER, "alpha")
    assert next_stamp(full, NOW, "alpha") == Stamp(NOW + 1, 0, "alpha")


def test_clock_past_year_2190_counts_no_further() -> None:
    year_9999 = 253_370_764_800_000
    first = next_stamp(stamp(NOW), year_9999, "alpha")
    assert first == Stamp(limits.OWN_CLOCK_MS, 0, "alpha")
    assert next_stamp(first, year_9999, "beta") == Stamp(limits.OWN_CLOCK_MS, 1, "beta")


def test_last_stamp_stops_nobody() -> None:
    last = Stamp(limits.LATEST_STAMP_MS, limits.STAMP_COUNTER, "mallory")
    before = next_stamp(Stamp(limits.LATEST_STAMP_MS - 1, limits.STAMP_COUNTER, "mallory"), NOW, "alpha")
    assert before == Stamp(limits.LATEST_STAMP_MS, 0, "alpha")
    for node in ("alpha", "zulu"):
        again = next_stamp(last, NOW, node)
        assert again >= last
        assert Stamp.parse(str(again)) == again


@pytest.mark.parametrize("late", [limits.LATEST_STAMP_MS + 1, limits.STAMP_WALL_MS])
def test_what_lies_past_the_year_2200_is_refused(late: int) -> None:
    base = written({"a": 1})
    for ahead in (
        base.written({"a": 2}, stamp(late), NOW),
        base.written({"a": 2}, stamp(NOW + 1), late),
        base.updated({"a": 2}, [], stamp(late), NOW),
        base.updated({}, ["a"], stamp(late), NOW),
        base.destroyed(stamp(late)),
    ):
        with pytest.raises(DocumentError, match="2200"):
            Document.from_json(ahead.to_json())


def test_document_an_hour_ahead_is_not_refused() -> None:
    ahead = written({"a": 1}, NOW + 3_600_000, NOW + 3_600_000)
    assert Document.from_json(ahead.to_json()) == ahead
    assert ahead.ahead_ms(NOW) == 3_600_000


@pytest.mark.parametrize(("ahead_s", "expired"), [(0, False), (60, False), (61, True), (10**9, True)])
def test_a_discovery_from_the_future_is_not_young(ahead_s: int, expired: bool) -> None:
    with_time_out = written({"time_out_in_minutes": 10**6}, NOW, NOW + ahead_s * 1000)
    assert with_time_out.expired(NOW) is expired
    assert not written({}, NOW, NOW + ahead_s * 1000).expired(NOW)


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
        broken(format=3),
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
        (b'{"a":1,"a":2}', "appears twice"),
        (b'{"b":{"a":1,"a":2}}', "appears twice"),
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
def test_ambiguous_text_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(DocumentError, match=why):
        strict_json.loads(text)


def test_sixty_four_levels_are_still_read() -> None:
    assert strict_json.loads(b"[" * 64 + b"]" * 64)


def test_byte_order_mark_of_a_file_is_accepted() -> None:
    assert strict_json.loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}
