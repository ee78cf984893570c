"""Immutable JSON values, so that all callers can share one parsed document.

They are subclasses of `dict` and `list`: ``json.dumps``, ``==``, ``isinstance`` and indexing work as
usual.  ``copy.deepcopy`` returns ordinary, mutable dicts and lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from miros_cache_net import limits
from miros_cache_net.errors import PayloadError

TYPE_CHECKING = False  # importing typing takes longer than a reader runs
if TYPE_CHECKING:
    from typing import Any, NoReturn


if TYPE_CHECKING:
    _Dict = dict[str, Any]
    _List = list[Any]
else:
    _Dict, _List = dict, list


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError("a document from the cache is shared and immutable; copy.deepcopy() makes a mutable copy")


class FrozenDict(_Dict):
    """An immutable JSON object."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: thaw(value) for key, value in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FrozenList(_List):
    """An immutable JSON array."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [thaw(value) for value in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def thaw(value: Any) -> Any:
    """A deep copy of a JSON value in ordinary dicts and lists."""
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return value


def freeze(value: Any, where: str = "the document", depth: int = 0) -> Any:
    """A deep, frozen copy of a caller's value, checked to be JSON.

    Accepts mappings with string keys, lists, tuples, strings, bools, None, integers and finite floats.
    Raises `PayloadError`, which names the place, for anything else.
    """
    if depth >= limits.DOCUMENT_DEPTH and isinstance(value, (Mapping, list, tuple)):
        raise PayloadError(f"{where} is nested deeper than {limits.DOCUMENT_DEPTH} levels")
    if isinstance(value, Mapping):
        return FrozenDict(
            (_key(key, where), freeze(item, f"{where}[{key!r}]", depth + 1)) for key, item in value.items()
        )
    if isinstance(value, (list, tuple)):
        return FrozenList(freeze(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value))
    return _scalar(value, where)


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise PayloadError(f"{where} has the key {key!r}; keys must be strings")
    return _text(key, where)


def _text(value: str, where: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise PayloadError(f"{where} contains half a surrogate pair, which is not valid Unicode") from None
    return value if type(value) is str else str.__str__(value)


def _scalar(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        if value.bit_length() > limits.NUMBER_BITS:
            raise PayloadError(f"{where} is a number with more than {limits.NUMBER_BITS} bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadError(f"{where} is {value!r}, which JSON cannot represent")
        return float(value)
    raise PayloadError(f"{where} is a {type(value).__name__}, which JSON cannot represent")
