"""JSON text to frozen values and back, refusing what the standard parser lets pass..

RFC 8259 leaves duplicate keys, huge numbers, lone surrogates and depth to the implementation; two
programs that choose differently would disagree about one document, so all of them are errors here.
"""

from __future__ import annotations

import json
import math

from miros_cache_net import limits
from miros_cache_net.document.frozen import FrozenDict, FrozenList, freeze
from miros_cache_net.errors import DocumentError

TYPE_CHECKING = False  # typing takes longer to import than a reader lives
if TYPE_CHECKING:
    from typing import Any, NoReturn


def loads(data: bytes | str, *, max_bytes: int = limits.DOCUMENT_BYTES, max_depth: int = limits.DOCUMENT_DEPTH) -> Any:
    """Parse strict JSON into frozen values.

    Raises `DocumentError`, in one line, for text that is too large, not UTF-8, not JSON, nested too deep,
    or that holds duplicate keys, NaN, infinite or over-long numbers, or half a surrogate pair.
    """
    if len(data) > max_bytes:
        raise DocumentError(f"{len(data)} bytes are more than the {max_bytes} allowed")
    text = _decode(data)
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"not JSON: {error}") from None
    if type(value) is list:
        value = _freeze_list(value)
    _check_nesting(text, value, max_depth)
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(value)
    return value


def dumps(value: Any) -> bytes:
    """Canonical compact JSON in UTF-8: sorted keys, no white space.  Equal values give equal bytes.

    The value must be JSON already (from `loads` or `freeze`); anything else raises `DocumentError`.
    """
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise DocumentError(f"cannot be written as JSON: {error}") from None


def frozen_copy(value: Any) -> tuple[Any, bytes]:
    """A deep, frozen copy of the JSON object that a caller handed over, and its canonical text.

    Raises `PayloadError` as `freeze` does.  Through the parser, in C, that is several times faster than `freeze`, but
    it lets pass what JSON has no words for, such as keys that are numbers or tuples: then the copy is not equal.
    """
    try:
        text = _ENCODER.encode(value)
        data = text.encode("utf-8")
        copy = loads_canonical(data, _scan if len(text) <= limits.NUMBER_DIGITS_WRITTEN else _scan_numbers)
        _check_nesting(text, copy, limits.DOCUMENT_DEPTH)
        if copy == value:
            return copy, data
    except (ValueError, TypeError, RecursionError):
        pass  # freeze names the place
    copy = freeze(value)
    return copy, dumps(copy)


def loads_canonical(data: bytes, scan: Any = None) -> Any:
    """Parse what `dumps` gave: no second look at duplicate keys, depth, numbers and surrogates."""
    value = (scan or _scan)(data.decode(), 0)[0]
    if type(value) is FrozenDict:
        _freeze_lists(value, data.count(b"["))
    return value


def _check_nesting(text: str, value: Any, max_depth: int) -> None:
    if text.count("{") + text.count("[") > max_depth:
        _check_depth(value, 1, max_depth)


def _freeze_lists(contents: FrozenDict, at_most: int) -> None:
    """Freeze the lists in what the scanner returned; there are not more than `at_most`, often all at the top."""
    if at_most:
        at_top = [key for key, value in contents.items() if type(value) is list]
        for key in at_top:
            dict.__setitem__(contents, key, _frozen_list(contents[key]))
        if len(at_top) < at_most:
            for value in contents.values():
                if type(value) is FrozenDict:
                    _freeze_lists(value, at_most)


def _frozen_list(items: list[Any]) -> FrozenList:
    if _NESTED.isdisjoint(map(type, items)):
        return FrozenList(items)
    for index, item in enumerate(items):
        if type(item) is list:
            items[index] = _frozen_list(item)
        elif type(item) is FrozenDict:
            _freeze_lists(item, limits.DOCUMENT_BYTES)
    return FrozenList(items)


def _too_deep(max_depth: int) -> DocumentError:
    return DocumentError(f"nested deeper than {max_depth} levels")


def _decode(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        # an editor's byte order mark is no reason to throw a person's work away
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8 at byte {error.start}") from None


def _object(pairs: list[tuple[str, Any]]) -> FrozenDict:
    for index, (key, item) in enumerate(pairs):
        if type(item) is list:
            pairs[index] = key, _freeze_list(item)
    result = FrozenDict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DocumentError(f"the key {twice!r} stands twice in one object")
    return result


def _freeze_list(items: list[Any]) -> FrozenList:
    return FrozenList([_freeze_list(item) if type(item) is list else item for item in items])


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DocumentError(f"the number {text[:40]} is too large")
    return value


def _written_int(text: str) -> int:
    # a program may have lifted CPython's own bound, and others could not read what it writes
    if len(text) > limits.NUMBER_DIGITS_WRITTEN:
        raise ValueError("too long a number")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise DocumentError(f"{text} is not JSON")


def _check_depth(value: Any, depth: int, max_depth: int) -> None:
    if depth > max_depth:
        raise _too_deep(max_depth)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        if isinstance(item, (dict, list)):
            _check_depth(item, depth + 1, max_depth)


def _check_surrogates(value: Any) -> None:
    try:
        dumps(value)
    except DocumentError:
        raise DocumentError("half a surrogate pair, which is no Unicode text") from None


_NESTED = frozenset((list, FrozenDict))
# whole numbers need no hook: CPython itself refuses more than limits.NUMBER_DIGITS digits
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
_scan = json.JSONDecoder(object_hook=FrozenDict).scan_once  # type: ignore[attr-defined]
_scan_numbers = json.JSONDecoder(object_hook=FrozenDict, parse_int=_written_int).scan_once  # type: ignore[attr-defined]
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
)
