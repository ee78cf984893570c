"""The fast strict parser gives what a plain one gives, and refuses what that refuses."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict, FrozenList
from miros_cache_net.errors import DocumentError
from tests.property import careful_json

DEPTH = 4
#: All that a JSON text is made of, in any order; a text of these is often no JSON, but seldom by much.
STRINGS = st.sampled_from(
    [
        '"a"',
        '"b"',
        '"["',
        '"]"',
        '"{"',
        '"\\\\"',
        '"\\""',
        '"\\\\]"',
        '"\\ud800"',
        '"\\uDC00"',
        '"\\ud83d\\ude00"',
        '"1e999"',
        '"\u20ac"',
    ]
)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["1e308", "1e309", "1E+309", "-1e0999", "1e-999", "0e999", "NaN", "-Infinity", "1" * 310]),
    st.builds("{}{}{}".format, st.sampled_from(["9" * 250, "1" * 309, "0.1"]), st.sampled_from(["", ".5"]),
              st.sampled_from(["", "e59", "E+60", "e9", "e00000308"])),
    st.sampled_from(["1" * 4300, "1" * 4301]),
)  # fmt: skip
SCALARS = st.one_of(STRINGS, NUMBERS, st.sampled_from(["true", "false", "null", "nul", ""]))


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.builds("{}:{}".format, STRINGS, inner), max_size=3)
    return pairs.map(lambda each: "{" + ",".join(each) + "}")


def lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(inner, max_size=3).map(lambda each: "[" + ", ".join(each) + "]")


TEXTS = st.recursive(SCALARS, lambda inner: st.one_of(objects(inner), lists(inner)), max_leaves=12)


@given(TEXTS)
@example('["]",["]",["]",["]",["]"],"["],"["],"["],"["]')
@example("[[[[]]]]")
@example("[[[[[]]]]]")
@example('{"a":[[{}]]}')
@example('{"a":[[{"b":{}}]]}')
@example('{"a":1,"b":{"a":2,"a":3}}')
@example('["\\\\","[",[[[["x"]]]]]')
@example("[" * 100_000)
@example("[" * 990 + "]" * 990)
def test_the_fast_parser_agrees_with_the_careful_one(text: str) -> None:
    try:
        careful = careful_json.loads(text, DEPTH)
    except ValueError:
        careful = None
        refused = True
    else:
        refused = False
    try:
        value = strict_json.loads(text, max_depth=DEPTH)
    except DocumentError:
        assert refused, "refused, and should not"
        return
    assert not refused, f"accepted: {value!r}"
    assert shape(value) == shape(careful)
    if type(value) is FrozenDict:
        assert shape(strict_json.loads_canonical(strict_json.dumps(value))) == shape(careful)


def shape(value: Any) -> Any:
    """Types and values, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        assert type(value) is FrozenDict
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        assert type(value) is FrozenList
        return [shape(item) for item in value]
    return type(value), repr(value)
