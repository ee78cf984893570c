"""A document's format in its file, and what it shows without its entries.

The text is one JSON object: the contents as canonical JSON, then `META_KEY` with the version and the rest of the
metadata.  The version is a digest of everything else: one pass over the bytes tells our text from text that another
program wrote or edited, and our text needs no second check for duplicate keys, depth or numbers.
"""

from __future__ import annotations

import json
import math
import re

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict
from miros_cache_net.errors import DocumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from hashlib import blake2b
    from typing import Any, Final, NamedTuple, NoReturn
else:
    from miros_cache_net.named_tuple import NamedTuple

    try:  # hashlib loads OpenSSL, which takes longer than everything else that a reader does
        from _blake2 import blake2b
    except ImportError:  # pragma: no cover - other Pythons
        from hashlib import blake2b

#: The one reserved top-level key: metadata, never part of the contents that users read or write.
META_KEY: Final = "_miros_cache_net"
#: The format version that is written.
FORMAT: Final = 2
#: The format versions that are read.
FORMATS: Final = (1, 2)
TIME_OUT_KEY: Final = "time_out_in_minutes"

#: The error for an impossible discovery time.
NO_TIME: Final = "discovered_at_ms is not a time, or lies past the year 2200"

_SURROGATE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD]")
_MARK: Final = b'"%s":{"digest":"' % META_KEY.encode()
_DIGEST_DIGITS: Final = 32
#: Bytes that `text_of` adds to contents and metadata, apart from a comma.
_FRAME_BYTES: Final = len(_MARK) + _DIGEST_DIGITS + 2
#: Offset of the node in the text of a stamp.
_NODE_AT: Final = 18


class Face(NamedTuple):
    """The parts of a document that readers use.

    contents          the visible entries
    discovered_at_ms  milliseconds since 1970; 0: never discovered
    origin            the node that wrote it, "" if none did
    version           equal on two hosts exactly if their documents are equal
    """

    contents: FrozenDict
    discovered_at_ms: int
    origin: str
    version: str


def text_of(contents: bytes, meta: bytes, version: str) -> bytes:
    """The file's text, made from the canonical JSON of contents and metadata."""
    comma = b"," if len(contents) > 2 else b""
    return b'%s%s%s%s",%s}' % (contents[:-1], comma, _MARK, version.encode(), meta[1:])


def unknown_format(number: object) -> str:
    """The error for a document in a format that this release does not read."""
    return f"format {number!r}; this release reads {' and '.join(map(str, FORMATS))}"


def bytes_of(contents: bytes, meta: bytes) -> int:
    """The length of `text_of` in bytes."""
    return len(contents) + len(meta) + _FRAME_BYTES - (len(contents) == 2)


def version_of(contents: bytes, meta: bytes) -> str:
    """BLAKE2b over contents and metadata, as 32 hexadecimal digits."""
    return digest_of(contents, meta)


def digest_of(*parts: bytes) -> str:
    """BLAKE2b over all parts, as 32 hexadecimal digits."""
    digest = blake2b(digest_size=_DIGEST_DIGITS // 2)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def face_of(text: bytes) -> tuple[Face, dict[str, Any]] | None:
    """The face and the metadata of a document in exactly the form of `text_of`; None for any other text."""
    at = text.rfind(_MARK)
    digest_at = at + len(_MARK)
    version = text[digest_at : digest_at + _DIGEST_DIGITS].decode("latin-1")
    contents = text[:at].removesuffix(b",") + b"}"
    meta_text = b"{" + text[digest_at + _DIGEST_DIGITS + 2 : -1]
    if at < 1 or version_of(contents, meta_text) != version or _has_surrogates(text):
        return None  # perhaps half a pair, which a digest does not rule out
    try:
        value = strict_json.loads_canonical(text, _scan)
        meta = dict.pop(value, META_KEY)
        return _face(value, meta, version)
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return None


def _has_surrogates(text: bytes) -> bool:
    """Escaped surrogates; a backslash that is itself escaped does not start one."""
    return (b"\\ud" in text or b"\\uD" in text) and _SURROGATE.search(text) is not None


def face_in(value: Mapping[str, Any]) -> tuple[Face, dict[str, Any]] | None:
    """As `face_of`, for parsed text that an editor, say, has reformatted without changing its meaning."""
    meta = value.get(META_KEY)
    if not isinstance(meta, dict) or "floor" not in meta or "discovered_at_ms" not in meta:
        return None
    contents = FrozenDict((key, item) for key, item in value.items() if key != META_KEY)
    signed = {key: item for key, item in meta.items() if key != "digest"}
    version = version_of(strict_json.dumps(contents), strict_json.dumps(signed))
    return _face(contents, meta, version) if version == meta.get("digest") else None


def _face(contents: FrozenDict, meta: dict[str, Any], version: str) -> tuple[Face, dict[str, Any]] | None:
    floor, discovered_at_ms = meta["floor"], meta["discovered_at_ms"]
    if meta.get("format") not in FORMATS or type(floor) is not str or type(discovered_at_ms) is not int:
        return None
    if not 0 <= discovered_at_ms <= limits.LATEST_STAMP_MS:
        raise DocumentError(NO_TIME)
    origin = floor[_NODE_AT:]
    if not origin.isprintable():
        raise DocumentError("the name of the node that wrote it is not printable")
    return Face(contents, discovered_at_ms, origin, version), meta


def young_between_ms(contents: Mapping[str, Any], discovered_at_ms: int) -> tuple[float, float]:
    """The first and the last moment, in ms since 1970, at which a document is not expired.

    Without ``time_out_in_minutes`` a written document never expires.  With a time-out that is 0, negative or not a
    number it expires at once: a document is not trusted to be young if its time-out makes no sense.  The same holds for
    a discovery further in the future than clocks may differ.
    """
    minutes = contents.get(TIME_OUT_KEY, math.inf)
    if discovered_at_ms == 0 or isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or minutes <= 0:
        return math.inf, -math.inf
    if minutes == math.inf:
        return -math.inf, math.inf
    lasts_ms = min(minutes, limits.STAMP_WALL_MS) * 60_000
    return discovered_at_ms - limits.CLOCK_AHEAD_MS, discovered_at_ms + lasts_ms


def age_s(discovered_at_ms: int, now_ms: int) -> float:
    """Seconds since the contents were discovered, never negative; ``inf`` if they never were."""
    return max(0, now_ms - discovered_at_ms) / 1000 if discovered_at_ms else math.inf


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("the number is too large")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


#: A digest does not prove that we wrote a text: anyone who may write the file can compute one for any text.
_scan = json.JSONDecoder(object_hook=FrozenDict, parse_float=_finite, parse_constant=_no_constant).scan_once  # type: ignore[attr-defined]
