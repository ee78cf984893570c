"""A slow and plain strict parser: what the fast one must agree with."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from miros_cache_net.document.frozen import FrozenDict, FrozenList


def loads(text: str, max_depth: int) -> Any:
    """Frozen values, or `ValueError`."""
    decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_finite, parse_constant=_refused)
    try:
        value = _frozen(decoder.decode(text), max_depth)
    except RecursionError:
        raise ValueError("too deep") from None
    json.dumps(value, ensure_ascii=False).encode()
    return value


class _Pairs(list[Any]):
    """An object, so that it is no list."""


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return _Pairs(pairs)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError("infinite")
    return float(text)


def _refused(text: str) -> NoReturn:
    raise ValueError(text)


def _frozen(value: Any, levels: int) -> Any:
    if isinstance(value, list) and not levels:
        raise ValueError("too deep")
    if isinstance(value, _Pairs):
        return FrozenDict((key, _frozen(item, levels - 1)) for key, item in value)
    if isinstance(value, list):
        return FrozenList(_frozen(item, levels - 1) for item in value)
    return value
