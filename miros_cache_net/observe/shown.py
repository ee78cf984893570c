"""A payload or a line as text for a trace: bounded, without secrets, and without running the payload's own code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from miros_cache_net import limits

#: Replaces a secret.
HIDDEN: Final = "***"
#: Only this much of a text is examined; a secret at the cut is hidden together with the rest.
_LOOKED_AT: Final = 8 * limits.STEP_TEXT
#: The login of a URL: a user name or token, or everything from the user name to the last "@" before the next URL,
#: because an unencoded password may contain any character.
_LOGIN: Final = re.compile(r"(?<=://)(?:[^\s:/@'\"]*:(?:[^\s'\"]|[\s'\"](?![^\s'\"]*://))*|[^\s:/@'\"]+)@")
#: A URL at the end of a cut text: its password may begin there, with the "@" cut off.
_CUT_LOGIN: Final = re.compile(r"(?<=://)[^\s'\"@]*\Z")
#: A name whose value is a secret.
_SECRET_NAME: Final = (
    r"(?:[\w-]*(?:passw|passphrase|secret|token|api[_-]?key|encryption[_-]?key|private[_-]?key|credential)[\w-]*"
    r"|(?<![\w-])(?:[\w-]*[_-])?(?:pass|pwd|auth|authorization)[_-]?\d*(?![\w-])"
    r"|(?<![\w-])[\w-]*(?-i:[a-z](?:Pass|Pwd|Auth))\d*(?![\w-]))"
)
#: The word before the secret in an Authorization header.
_SCHEME: Final = r"(?:bearer|basic|digest|negotiate|token)\s+"
#: Any length after "bearer"; after "basic", a common word in prose, only text that is too long to be prose.
_BEARER: Final = re.compile(r"\b(bearer\s+(?=[\w.~+/=-])|basic\s+(?=[\w.~+/=-]{8}))[\w.~+/=-]+", re.IGNORECASE)
_NAMED: Final = re.compile(
    rf"({_SECRET_NAME}['\"]?\s*[:=]\s*)(?:'[^']*'?|\"[^\"]*\"?|(?:{_SCHEME})?[^\s,;)}}\]]+)", re.IGNORECASE
)
_IS_SECRET_NAME: Final = re.compile(rf"\A{_SECRET_NAME}\Z|\Akeys?\Z", re.IGNORECASE)
#: A key of this package, or a message encrypted with one.
_KEY: Final = re.compile(r"(?<![\w-])(?:[\w-]{43}=|gAAAA[\w=-]{40,})(?![\w=-])")


def shown_line(text: str) -> str:
    """`text` without secrets, cut to `limits.STEP_TEXT` characters."""
    without_bearers = _BEARER.sub(rf"\1{HIDDEN}", without_logins(text))
    hidden = _KEY.sub(HIDDEN, _NAMED.sub(rf"\1{HIDDEN}", without_bearers))
    return hidden if len(hidden) <= limits.STEP_TEXT else hidden[: limits.STEP_TEXT - 3] + "..."


def without_logins(text: str) -> str:
    """The first few thousand characters of `text`, without the user names and passwords in URLs."""
    looked_at = text if len(text) <= _LOOKED_AT else _CUT_LOGIN.sub(HIDDEN, text[:_LOOKED_AT])
    return _LOGIN.sub(f"{HIDDEN}@", looked_at)


def shown_payload(payload: Any) -> str:
    """`payload` as `shown_line` of its text; an object of an unknown type is shown as its type.  Never raises."""
    if payload is None:
        return ""
    try:
        return shown_line(_bounded(_parts(payload, 0)))
    except Exception:  # a custom mapping class, or a payload that another thread changes
        return f"<{type(payload).__name__}>"


def _bounded(parts: Iterator[str]) -> str:
    text, size = [], 0
    for part in parts:
        text.append(part)
        size += len(part)
        if size > _LOOKED_AT:
            break
    return "".join(text)


def _parts(value: Any, depth: int) -> Iterator[str]:
    if value is None or isinstance(value, (bool, int, float)):
        yield repr(value) if type(value) in (bool, int, float, type(None)) else f"<{type(value).__name__}>"
    elif isinstance(value, str):
        yield repr(str(value)[:_LOOKED_AT])
    elif isinstance(value, bytes):
        yield f"<{len(value)} bytes>"
    elif depth >= limits.STEP_DEPTH:
        yield "..."
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield type(value).__name__
        yield from _named(zip(value._fields, value, strict=False), depth, "({})", "{}=")
    elif isinstance(value, Mapping):
        yield from _named(value.items(), depth, "{{{}}}", "'{}': ")
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield "["
        for each in value:
            yield from _parts(each, depth + 1)
            yield ", "
        yield "]"
    else:
        yield f"<{type(value).__name__}>"


def _named(items: Any, depth: int, around: str, before: str) -> Iterator[str]:
    first, last = around.format("\0").split("\0")
    yield first
    for name, value in items:
        text = name if isinstance(name, str) else f"<{type(name).__name__}>"
        yield before.format(text[: limits.STEP_TEXT])
        if _IS_SECRET_NAME.match(text):
            yield HIDDEN
        else:
            yield from _parts(value, depth + 1)
        yield ", "
    yield last
