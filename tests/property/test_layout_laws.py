"""What is told of a file at a glance is what its whole document says, and nothing of it can be edited unnoticed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict, FrozenList
from miros_cache_net.document.layout import META_KEY, face_of
from miros_cache_net.document.value import Document, Stamp

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
KEYS = st.one_of(
    TEXTS, st.sampled_from(["digest", "deleted", "stamps", f'"{META_KEY}":{{"digest":"', "[", "time_out_in_minutes"])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.just(META_KEY), inner, max_size=3),
    max_leaves=8,
)
CONTENTS = st.dictionaries(KEYS, VALUES, max_size=5)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    document = Document.unwritten(draw(CONTENTS))
    if draw(st.booleans()):
        document = document.written(draw(CONTENTS), Stamp(1_000, 0, "alpha-1"), 900)
    changes = draw(CONTENTS)
    delete = draw(st.sets(KEYS, max_size=3)) - changes.keys()
    return document.updated(changes, delete, Stamp(2_000, 0, "beta-2"), 1_900) if draw(st.booleans()) else document


def all_frozen(value: Any) -> bool:
    if isinstance(value, dict):
        return type(value) is FrozenDict and all(all_frozen(item) for item in value.values())
    if isinstance(value, list):
        return type(value) is FrozenList and all(all_frozen(item) for item in value)
    return True


@given(documents())
@example(Document.unwritten({}).written({"a": ["\\uD", "\\\\ud800"]}, Stamp(2_000, 0, "beta-2"), 1_900))
def test_face_of_text_is_face_of_document(document: Document) -> None:
    known = face_of(document.to_text())
    assert known is not None
    face, meta = known
    assert face == document.face
    assert Document.from_parts(face.contents, meta) == document
    assert all_frozen(face.contents)
    assert strict_json.dumps(face.contents) == document.contents_text


@given(documents())
def test_text_is_strict_json_that_restores_the_document(document: Document) -> None:
    value = strict_json.loads(document.to_text())
    assert Document.from_json(value) == document
    assert value[META_KEY]["digest"] == document.version


@given(documents(), st.data())
def test_no_byte_can_be_changed_unnoticed(document: Document, data: st.DataObject) -> None:
    text = bytearray(document.to_text())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    known = face_of(bytes(text))
    # the braces at both ends and the punctuation around the digest stand for themselves
    assert known is None or known[0] == document.face


@given(st.one_of(st.binary(max_size=60), CONTENTS.map(lambda contents: json.dumps(contents).encode())))
def test_what_others_wrote_has_no_face(text: bytes) -> None:
    assert face_of(text) is None
