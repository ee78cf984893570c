"""How a document stands in its file, and what can be told of it at a glance, without its entries..

The text is one JSON object: the contents as canonical JSON, then `META_KEY` with the version and the rest of the
metadata.  The version is a digest of everything else, so that what some other program wrote or edited is told from
ours by one pass over the bytes; and what is ours needs no second look at duplicate keys, depth or numbers.
"""

from __future__ import annotations

import math

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from hashlib import blake2b
    from typing import Any, Final, NamedTuple
else:
    from miros_cache_net.named_tuple import NamedTuple

    try:  # hashlib itself loads OpenSSL, which takes longer than all that a reader does
        from _blake2 import blake2b
    except ImportError:  # pragma: no cover - other Pythons
        from hashlib import blake2b

#: The one reserved top-level key: metadata, never part of what users read or write.
META_KEY: Final = "_miros_cache_net"
#: What is written.
FORMAT: Final = 2
#: What is read.
FORMATS: Final = (1, 2)
TIME_OUT_KEY: Final = "time_out_in_minutes"

_MARK: Final = b'"%s":{"digest":"' % META_KEY.encode()
_DIGEST_DIGITS: Final = 32
#: What `text_of` adds to contents and metadata, but for a comma.
_FRAME_BYTES: Final = len(_MARK) + _DIGEST_DIGITS + 2
#: Where the node stands in the text of a stamp.
_NODE_AT: Final = 18


class Face(NamedTuple):
    """What readers want to know of a document.

    contents          the visible entries
    discovered_at_ms  since 1970; 0: nothing was
    origin            the node that wrote it, "" if nobody did
    version           equal on two hosts exactly if their documents are
    """

    contents: FrozenDict
    discovered_at_ms: int
    origin: str
    version: str


def text_of(contents: bytes, meta: bytes, version: str) -> bytes:
    """The file's text, of the canonical JSON of contents and metadata."""
    comma = b"," if len(contents) > 2 else b""
    return b'%s%s%s%s",%s}' % (contents[:-1], comma, _MARK, version.encode(), meta[1:])


def unknown_format(number: object) -> str:
    """What is said of a document of a format that is not read."""
    return f"format {number!r}; this release reads {' and '.join(map(str, FORMATS))}"


def bytes_of(contents: bytes, meta: bytes) -> int:
    """How long `text_of` is."""
    return len(contents) + len(meta) + _FRAME_BYTES - (len(contents) == 2)


def version_of(contents: bytes, meta: bytes) -> str:
    """32 hexadecimal digits of BLAKE2b over both."""
    return digest_of(contents, meta)


def digest_of(*parts: bytes) -> str:
    """32 hexadecimal digits of BLAKE2b over all parts."""
    digest = blake2b(digest_size=_DIGEST_DIGITS // 2)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def face_of(text: bytes) -> tuple[Face, dict[str, Any]] | None:
    """The face and the metadata of a document that stands as `text_of` laid it out; None for any other text."""
    at = text.rfind(_MARK)
    digest_at = at + len(_MARK)
    version = text[digest_at : digest_at + _DIGEST_DIGITS].decode("latin-1")
    contents = text[:at].removesuffix(b",") + b"}"
    meta_text = b"{" + text[digest_at + _DIGEST_DIGITS + 2 : -1]
    if at < 1 or version_of(contents, meta_text) != version:
        return None
    try:
        value = strict_json.loads_canonical(text)
        meta = dict.pop(value, META_KEY)
        return _face(value, meta, version)
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return None


def face_in(value: Mapping[str, Any]) -> tuple[Face, dict[str, Any]] | None:
    """The same of a parsed text that was laid out anew, by an editor perhaps, and says what it said."""
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
    return (Face(contents, discovered_at_ms, floor[_NODE_AT:], version), meta) if discovered_at_ms >= 0 else None


def young_between_ms(contents: Mapping[str, Any], discovered_at_ms: int) -> tuple[float, float]:
    """The times, ms since 1970, from and to which a document has not expired.

    Without ``time_out_in_minutes`` a written document never expires.  0, negative and non-numeric time-outs count as
    expired at once: what cannot be understood is not trusted to be young.  Neither is a discovery that lies further in
    the future than clocks may differ.
    """
    minutes = contents.get(TIME_OUT_KEY, math.inf)
    if discovered_at_ms == 0 or isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or minutes <= 0:
        return math.inf, -math.inf
    if minutes == math.inf:
        return -math.inf, math.inf
    lasts_ms = min(minutes, limits.STAMP_WALL_MS) * 60_000
    return discovered_at_ms - limits.CLOCK_AHEAD_MS, discovered_at_ms + lasts_ms


def age_s(discovered_at_ms: int, now_ms: int) -> float:
    """Seconds since the contents were discovered, never negative; ``inf`` if nothing was."""
    return max(0, now_ms - discovered_at_ms) / 1000 if discovered_at_ms else math.inf
