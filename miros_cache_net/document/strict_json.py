"""JSON text to frozen values and back, stricter than the standard parser.

RFC 8259 leaves duplicate keys, huge numbers, lone surrogates and depth to the implementation.  Two programs
that choose differently would disagree about a document, so all four are errors here.
"""

from __future__ import annotations

import json
import math

from miros_cache_net import limits
from miros_cache_net.document.frozen import FrozenDict, FrozenList, freeze
from miros_cache_net.errors import DocumentError

TYPE_CHECKING = False  # importing typing takes longer than a reader runs
if TYPE_CHECKING:
    from typing import Any, NoReturn


def loads(data: bytes | str, *, max_bytes: int = limits.DOCUMENT_BYTES, max_depth: int = limits.DOCUMENT_DEPTH) -> Any:
    """Parse strict JSON into frozen values.

    Raises `DocumentError`, with a one-line message, for text that is too large, not UTF-8, not JSON or nested too
    deeply, or that contains duplicate keys, NaN, infinite or over-long numbers, or half a surrogate pair.
    """
    if len(data) > max_bytes:
        raise DocumentError(f"{len(data)} bytes are more than the {max_bytes} allowed")
    text = _decode(data)
    try:
        value = _frozen_list((_DECODER if "[" in text else _DECODER_WITHOUT_LISTS).decode(text))
    except RecursionError:
        raise _too_deep(max_depth) from None
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"not JSON: {error}") from None
    _check_nesting(text, max_depth)
    if _may_be_infinite(text.encode("utf-8", "replace")) and _may_be_infinite(_between_strings(text)):
        _FINITE_DECODER.decode(text)
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        _check_surrogates(value)
    return value


def dumps(value: Any) -> bytes:
    """Canonical compact JSON in UTF-8: sorted keys, no whitespace.  Equal values give equal bytes.

    The value must come from `loads` or `freeze`; a value that is not JSON raises `DocumentError`.
    """
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise DocumentError(f"cannot be written as JSON: {error}") from None


def frozen_copy(value: Any) -> tuple[Any, bytes]:
    """A deep, frozen copy of a caller's JSON object, and its canonical text.

    Raises `PayloadError` as `freeze` does.  The parser, in C, is several times faster than `freeze`, but it converts
    what JSON cannot represent, such as number keys or tuples; the copy then differs from the original, and `freeze`
    decides.
    """
    try:
        text = _ENCODER.encode(value)
        data = text.encode("utf-8")
        copy = loads_canonical(data, None if len(text) <= limits.NUMBER_DIGITS_WRITTEN else _scan_numbers)
        _check_nesting(text, limits.DOCUMENT_DEPTH)
        if copy == value:
            return copy, data
    except (ValueError, TypeError, RecursionError):
        pass  # freeze raises an error that names the place
    copy = freeze(value)
    return copy, dumps(copy)


def loads_canonical(data: bytes, scan: Any = None) -> Any:
    """Parse the output of `dumps`, without a second check for duplicate keys, depth, numbers and surrogates."""
    value = (scan or _scan)(data.decode(), 0)[0]
    if type(value) is FrozenDict:
        _freeze_lists(value, data.count(b"["))
    return value


def _between_strings(text: str) -> bytes:
    """The parts of a JSON text between its strings: brackets, commas, numbers, whitespace."""
    without_escapes = text.replace("\\\\", "").replace('\\"', "") if "\\" in text else text
    return "".join(without_escapes.split('"')[::2]).encode("ascii", "replace")


def _check_nesting(text: str, max_depth: int) -> None:
    if text.count("{") + text.count("[") <= max_depth:
        return
    brackets = _between_strings(text).translate(_BRACKETS, _NO_BRACKETS)
    # Each pass removes the innermost brackets, so the number of passes is the number of levels.
    for _ in range(max_depth):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise _too_deep(max_depth)


def _may_be_infinite(text: bytes) -> bool:
    """A number can be infinite only with a three-digit exponent, or with 200 digits before a smaller one."""
    form = text.translate(_NUMBER_FORM, b"+")
    return b"0e000" in form or _LONG_NUMBER in form


def _frozen_list(value: Any) -> Any:
    """Freeze the lists of a scanned value; its objects are frozen already."""
    if type(value) is not list:
        return value
    return FrozenList(map(_frozen_list, value) if list in map(type, value) else value)


def _freeze_lists(contents: FrozenDict, at_most: int) -> None:
    """Freeze the lists of scanned contents: no more than `at_most`, often all at the top level."""
    if at_most:
        at_top = [key for key, value in contents.items() if type(value) is list]
        for key in at_top:
            dict.__setitem__(contents, key, _frozen_deep_list(contents[key]))
        if len(at_top) < at_most:
            for value in contents.values():
                if type(value) is FrozenDict:
                    _freeze_lists(value, at_most)


def _frozen_deep_list(items: list[Any]) -> FrozenList:
    if _NESTED.isdisjoint(map(type, items)):
        return FrozenList(items)
    for index, item in enumerate(items):
        if type(item) is list:
            items[index] = _frozen_deep_list(item)
        elif type(item) is FrozenDict:
            _freeze_lists(item, limits.DOCUMENT_BYTES)
    return FrozenList(items)


def _too_deep(max_depth: int) -> DocumentError:
    return DocumentError(f"nested deeper than {max_depth} levels")


def _decode(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        # An editor's byte order mark is no reason to reject a person's work.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8 at byte {error.start}") from None


def _object(pairs: list[tuple[str, Any]]) -> FrozenDict:
    contents = FrozenDict(pairs)
    if len(contents) != len(pairs):
        raise _twice(pairs)
    return contents


def _object_of_pairs_and_lists(pairs: list[tuple[str, Any]]) -> FrozenDict:
    contents = _object(pairs)
    for key, value in pairs:
        if type(value) is list:
            dict.__setitem__(contents, key, _frozen_list(value))
    return contents


def _twice(pairs: list[tuple[str, Any]]) -> DocumentError:
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return DocumentError(f"the key {twice!r} appears twice in one object")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DocumentError(f"the number {text[:40]} is too large")
    return value


def _written_int(text: str) -> int:
    # A program may have raised CPython's own limit; other programs could not read what it writes.
    if len(text) > limits.NUMBER_DIGITS_WRITTEN:
        raise ValueError("the number is too long")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise DocumentError(f"{text} is not JSON")


def _check_surrogates(value: Any) -> None:
    try:
        dumps(value)
    except DocumentError:
        raise DocumentError("not valid Unicode: it contains half a surrogate pair") from None


_LONG_NUMBER = b"0" * 200
_NUMBER_FORM = bytes.maketrans(b"123456789E", b"0" * 9 + b"e")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Integers need no hook: CPython itself refuses more than limits.NUMBER_DIGITS digits.
_DECODER = json.JSONDecoder(object_pairs_hook=_object_of_pairs_and_lists, parse_constant=_constant)
_DECODER_WITHOUT_LISTS = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_FINITE_DECODER = json.JSONDecoder(parse_float=_float, parse_int=len)
_NESTED = frozenset((list, FrozenDict))
_scan = json.JSONDecoder(object_hook=FrozenDict).scan_once  # type: ignore[attr-defined]
_scan_numbers = json.JSONDecoder(object_hook=FrozenDict, parse_int=_written_int).scan_once  # type: ignore[attr-defined]
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
)
