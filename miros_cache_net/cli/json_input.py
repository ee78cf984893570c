"""JSON that a user or a program passes to a command: a file, standard input, or the value in KEY=JSON."""

from __future__ import annotations

import sys
from typing import Any

from miros_cache_net import limits
from miros_cache_net.cli.exits import say
from miros_cache_net.document import strict_json
from miros_cache_net.document.layout import META_KEY, TIME_OUT_KEY
from miros_cache_net.errors import DocumentError, PayloadError

_EXAMPLE = """for example: echo '{"hosts": ["10.0.0.2"]}' | miros-cache-net write"""


def object_from(source: str) -> dict[str, Any]:
    """The JSON object in the file `source`, "-" for standard input.

    Raises `PayloadError`, naming the source, if it cannot be read or holds no JSON object.
    """
    return object_in(_read(source), "standard input" if source == "-" else source)


def object_in(text: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `text`, which came from `name`.  Raises `PayloadError` as `object_from` does."""
    if not text.strip():
        raise PayloadError(f"{name} is empty; give a JSON object, {_EXAMPLE}")
    try:
        value = strict_json.loads(text)
    except DocumentError as error:
        raise PayloadError(f"{name}: {error}") from None
    if not isinstance(value, dict):
        raise PayloadError(f"{name} holds {_kind(value)}; give a JSON object, {_EXAMPLE}")
    if META_KEY in value:
        say(f"note: the key {META_KEY!r} of {name} is reserved and left out")
    return _with_usable_time_out(value)


def assignments(arguments: tuple[str, ...]) -> dict[str, Any]:
    """The keys and values of KEY=JSON arguments.  Raises `PayloadError`, which says how to quote."""
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise PayloadError(f"{argument!r} is not KEY=JSON; to remove a key, write --delete {argument}")
        if not key:
            raise PayloadError(f"{argument!r} names no key; write KEY=JSON")
        if key == META_KEY:
            raise PayloadError(f"the key {META_KEY!r} is reserved; choose another")
        if key in values:
            raise PayloadError(f"the key {key!r} is given twice; give it once")
        values[key] = _value(key, text)
    return _with_usable_time_out(values)


def _with_usable_time_out(values: dict[str, Any]) -> dict[str, Any]:
    """In a file, a time-out that is no number means "expired at once"; a user who types one means something else."""
    minutes = values.get(TIME_OUT_KEY, 0)
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)):
        raise PayloadError(
            f"{TIME_OUT_KEY!r} is {_kind(minutes)}; give a number of minutes, such as 60 without quotes; without "
            "the key the document never expires"
        )
    return values


def _value(key: str, text: str) -> Any:
    try:
        return strict_json.loads(text)
    except DocumentError as error:
        if any(c in text for c in '[]{}"'):
            raise PayloadError(f"the value of {key!r} is {error}; quote it for the shell: '{key}=[1, 2]'") from None
        raise PayloadError(
            f"the value of {key!r} is not JSON: {text[:60]!r}; text is quoted twice, for the shell and for JSON: "
            f"'{key}=\"{text[:60]}\"'"
        ) from None


def _read(source: str) -> bytes:
    try:
        if source != "-":
            with open(source, "rb") as file:
                return file.read(limits.DOCUMENT_BYTES + 1)
        if sys.stdin is None:
            return b""
        if sys.stdin.isatty():
            say("type a JSON object, then Ctrl-D on a line of its own (Ctrl-C cancels)")
        return sys.stdin.buffer.read(limits.DOCUMENT_BYTES + 1)
    except OSError as error:
        name = "standard input" if source == "-" else source
        raise PayloadError(f"{name} cannot be read: {error.strerror}") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "text", bool: "true or false", type(None): "null"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "a number")
