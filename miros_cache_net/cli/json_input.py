"""JSON that a person or a program hands to a command: a file, standard input, or the value in KEY=JSON."""

from __future__ import annotations

import sys
from typing import Any

from miros_cache_net import limits
from miros_cache_net.cli.exits import say
from miros_cache_net.document import strict_json
from miros_cache_net.document.layout import META_KEY
from miros_cache_net.errors import DocumentError, PayloadError

_EXAMPLE = """for example: echo '{"hosts": ["10.0.0.2"]}' | miros-cache-net write"""


def object_from(source: str) -> dict[str, Any]:
    """The JSON object in the file `source`, "-" for standard input.

    Raises `PayloadError`, naming the source, for what cannot be read and what is no JSON object.
    """
    name = "standard input" if source == "-" else source
    text = _read(source)
    if not text.strip():
        raise PayloadError(f"{name} is empty; a JSON object is wanted, {_EXAMPLE}")
    try:
        value = strict_json.loads(text)
    except DocumentError as error:
        raise PayloadError(f"{name}: {error}") from None
    if not isinstance(value, dict):
        raise PayloadError(f"{name} holds {_kind(value)}; a JSON object is wanted, {_EXAMPLE}")
    return value


def assignments(arguments: tuple[str, ...]) -> dict[str, Any]:
    """The keys and values of KEY=JSON arguments; `PayloadError` says how to quote."""
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
            say("type a JSON object, then Ctrl-D on a line of its own (Ctrl-C gives up)")
        return sys.stdin.buffer.read(limits.DOCUMENT_BYTES + 1)
    except OSError as error:
        name = "standard input" if source == "-" else source
        raise PayloadError(f"{name} cannot be read: {error.strerror}") from None


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "text", bool: "true or false", type(None): "null"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "a number")
