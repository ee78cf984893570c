"""A frozen copy made in C is the one that the careful function makes, and refuses what that refuses."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict, FrozenList, freeze
from miros_cache_net.errors import PayloadError

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.characters(categories=["Cs"]), st.binary()
)
KEYS = st.one_of(st.text(max_size=3), st.integers(0, 3), st.none(), st.booleans(), st.floats(0, 2))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


def deep(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return {"deep": value}


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@example({1: "number", "1": "text"})
@example({"nan": math.nan})
@example({"pair": ("a", ["b", {"c": []}])})
@example({"digits": 10**4300})
@example({"digits": 10**4200})
@example({"digits": [10**4220, -(10**4213)]})
@example({"digits": 2**14000})
@example({"digits": 1 - 2**14000})
@example(deep(64))
@example(deep(65))
@example({"half": "\ud800"})
def test_frozen_copy_equals_the_result_of_freeze(value: dict[Any, Any]) -> None:
    try:
        careful = freeze(value)
    except PayloadError as error:
        try:
            strict_json.frozen_copy(value)
        except PayloadError as again:
            assert str(again) == str(error)
        else:
            raise AssertionError(f"accepted, but {error}") from None
        return
    copy, text = strict_json.frozen_copy(value)
    assert shape(copy) == shape(careful)
    assert text == strict_json.dumps(careful)


def shape(value: Any) -> Any:
    """Types and values, so that 1, 1.0 and True differ, and order of keys does not count."""
    if isinstance(value, dict):
        assert type(value) is FrozenDict
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        assert type(value) is FrozenList
        return [shape(item) for item in value]
    return type(value), value
