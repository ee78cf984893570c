"""The laws of the merge, on the real `Document`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.value import META_KEY, ZERO, Document, Stamp, next_stamp

scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([1.0, 0.5]), st.text(max_size=3))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner))
keys = st.sampled_from(["a", "b", "c", "time_out_in_minutes"])
contents = st.dictionaries(keys, values, max_size=4)
#: few times and nodes, so that equal stamps (a copied disk image) and ties happen
stamps = st.builds(Stamp, st.integers(1, 4), st.integers(0, 1), st.sampled_from(["alpha", "beta"]))


@pytest.fixture(scope="module", autouse=True)
def one_deleted_key_at_most() -> Iterator[None]:
    """So that updates become whole writes here too."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "TOMBSTONES", 1)
        yield


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A document after a few changes, each stamped after what it saw."""
    document = Document.unwritten(draw(contents))
    for _ in range(draw(st.integers(0, 4))):
        stamp = next_stamp(document.last_stamp, draw(st.integers(1, 4)), draw(st.sampled_from(["alpha", "beta"])))
        change = draw(st.sampled_from(["write", "update", "destroy"]))
        if change == "write":
            document = document.written(draw(contents), stamp, draw(st.integers(0, 4)))
        elif change == "destroy":
            document = document.destroyed(stamp)
        else:
            update = draw(contents)
            delete = draw(st.sets(keys)) - update.keys()
            document = document.updated(update, delete, stamp, draw(st.integers(1, 4)))
    return document


def same(one: Document, other: Document) -> bool:
    return one.to_text() == other.to_text() and one.version == other.version


@given(documents(), documents())
def test_merge_is_commutative(a: Document, b: Document) -> None:
    assert same(a.merged(b), b.merged(a))


@given(documents(), documents(), documents())
def test_merge_is_associative(a: Document, b: Document, c: Document) -> None:
    assert same(a.merged(b).merged(c), a.merged(b.merged(c)))


@given(documents(), documents())
def test_merge_of_what_is_in_changes_nothing(a: Document, b: Document) -> None:
    assert a.merged(a) is a
    both = a.merged(b)
    assert both.merged(b) is both
    assert both.merged(a) is both


@given(st.lists(documents(), min_size=1, max_size=5), st.randoms())
def test_any_order_and_duplication_ends_in_one_document(parts: list[Document], random: Any) -> None:
    def fold(items: list[Document]) -> Document:
        result = Document.unwritten({})
        for item in items:
            result = result.merged(item)
        return result

    shuffled = parts + random.choices(parts, k=2)
    random.shuffle(shuffled)
    assert same(fold(parts), fold(shuffled))


@given(documents(), documents())
def test_merge_keeps_nothing_below_floor_and_invents_nothing(a: Document, b: Document) -> None:
    merged = a.merged(b)
    assert merged.floor == max(a.floor, b.floor)
    for key, entry in merged.entries.items():
        assert entry.stamp >= merged.floor.stamp
        assert entry in (a.entries.get(key), b.entries.get(key))


@given(documents(), contents, contents, st.sampled_from(["alpha", "beta"]))
def test_first_update_takes_nothing_from_written_documents(
    a: Document, default: dict[str, Any], changes: dict[str, Any], node: str
) -> None:
    if a.floor.stamp.wall_ms:
        first = Document.unwritten(default).updated(changes, [], Stamp(2, 0, node), 2)
        merged = a.merged(first)
        assert merged.floor == a.floor
        kept = {key: value for key, value in a.contents.items() if key not in changes}
        assert kept.items() <= merged.contents.items()


@given(documents(), contents)
def test_a_document_nobody_wrote_never_wins(a: Document, default: dict[str, Any]) -> None:
    if a.is_written:
        assert same(Document.unwritten(default).merged(a), a)
        assert same(a.merged(Document.unwritten(default)), a)


@given(documents())
def test_text_and_back_is_the_same_document(a: Document) -> None:
    text = a.to_text()
    again = Document.from_json(strict_json.loads(text))
    assert again == a
    assert same(again, a)
    assert strict_json.loads(text) == a.to_json()
    assert again.contents == {key: value for key, value in a.to_json().items() if key != META_KEY}


@given(documents(), documents())
def test_equal_versions_mean_equal_replicas(a: Document, b: Document) -> None:
    assert (a.version == b.version) == (a.to_text() == b.to_text())


@given(stamps, stamps)
def test_later_stamp_is_greater_also_as_text(a: Stamp, b: Stamp) -> None:
    after = next_stamp(a, b.wall_ms, b.node)
    assert after > a
    assert Stamp.parse(str(after)) == after
    assert (str(a) < str(b)) == (a < b)


@given(documents(), documents())
def test_of_two_concurrent_whole_writes_exactly_one_remains(a: Document, b: Document) -> None:
    first = a.written({"a": 1}, next_stamp(a.last_stamp, 3, "alpha"), 1)
    second = b.written({"b": 2}, next_stamp(b.last_stamp, 3, "beta"), 1)
    assert first.merged(second).contents in ({"a": 1}, {"b": 2})


def test_the_zero_stamp_is_the_least() -> None:
    assert Stamp(0, 0, "a") > ZERO
    assert Stamp.parse(str(ZERO)) == ZERO
