"""JSON values that cannot be changed, so that one parsed document can be handed to everybody..

They are subclasses of `dict` and `list`: ``json.dumps``, ``==``, ``isinstance`` and indexing work as
usual.  ``copy.deepcopy`` gives ordinary, changeable dicts and lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from miros_cache_net import limits
from miros_cache_net.errors import PayloadError

TYPE_CHECKING = False  # typing takes longer to import than a reader lives
if TYPE_CHECKING:
    from typing import Any, NoReturn


if TYPE_CHECKING:
    _Dict = dict[str, Any]
    _List = list[Any]
else:
    _Dict, _List = dict, list


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError("a document from the cache is shared and cannot be changed; copy.deepcopy() gives you your own")


class FrozenDict(_Dict):
    """A JSON object that cannot be changed."""

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
    """A JSON array that cannot be changed."""

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
    """A deep, frozen copy of what a caller handed over, checked to be JSON.

    Mappings with text keys, lists and tuples, text, bool, None, whole and finite numbers pass.
    Raises `PayloadError`, naming the place, for anything else.
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
        raise PayloadError(f"{where} has the key {key!r}; keys must be text")
    return _text(key, where)


def _text(value: str, where: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise PayloadError(f"{where} holds half a surrogate pair, which is no Unicode text") from None
    return value if type(value) is str else str.__str__(value)


def _scalar(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        if value.bit_length() > limits.NUMBER_BITS:
            raise PayloadError(f"{where} is a number of more than {limits.NUMBER_BITS} bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadError(f"{where} is {value!r}, which JSON cannot hold")
        return float(value)
    raise PayloadError(f"{where} is a {type(value).__name__}, which JSON cannot hold")
