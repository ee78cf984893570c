"""The three events of a cache, as programs of `miros-rabbitmq` send and hear them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from miros_cache_net.document import strict_json
from miros_cache_net.document.layout import META_KEY
from miros_cache_net.document.passwords import without_passwords
from miros_cache_net.document.value import Document
from miros_cache_net.errors import PayloadError
from miros_cache_net.events import CACHE, CACHE_FILE_READ, CACHE_FILE_WRITE
from miros_cache_net.store.changes import Write, write_of
from miros_cache_net.wire.mesh import MeshEvent, event_text

#: A cache ignores all other events of the old mesh.
NAMES = frozenset({CACHE, CACHE_FILE_READ, CACHE_FILE_WRITE})
_NAMED_WRITE = {"json", "file_name"}


class Heard(NamedTuple):
    """file_name  the document that the event names, "" if it names none
    write      the change that a ``CACHE_FILE_WRITE`` requests, or the contents in a ``CACHE``; None: a read
    """

    file_name: str
    write: Write | None


def heard_in(event: MeshEvent) -> Heard:
    """The meaning of an event with one of `NAMES`.  Raises `PayloadError` for contents that a document cannot have.

    The contents are a dict, or a `CacheWritePayload` as JSON makes it: its two fields in a list or a dict.  A read may
    name its document, ``{"file_name": "peers.json"}``.  Passwords in old LAN documents are left out.
    """
    payload = event.payload
    if event.signal_name == CACHE_FILE_READ:
        name = payload.get("file_name") if isinstance(payload, dict) else None
        return Heard(name if isinstance(name, str) else "", None)
    name = ""
    if isinstance(payload, dict) and set(payload) == _NAMED_WRITE:
        payload, name = payload["json"], payload["file_name"]
    elif isinstance(payload, list) and len(payload) == len(_NAMED_WRITE):
        payload, name = payload
    if not isinstance(name, str):
        raise PayloadError(f"the file name of {event.signal_name} must be text, not {type(name).__name__}")
    if not name and not isinstance(payload, Mapping):
        raise PayloadError(f"{event.signal_name} needs a dict, not {type(payload).__name__}")
    write = write_of(without_passwords(payload) if isinstance(payload, Mapping) else payload)
    if META_KEY in write.contents:
        raise PayloadError(f"the key {META_KEY!r} is reserved")
    return Heard(name, write)


def cache_text(document: Document) -> str:
    """The ``CACHE`` event with the document's contents.  Raises `EventNotSendable` beyond the mesh's cap."""
    return event_text(CACHE, _told(document))


def content_of(document: Document) -> str:
    """A digest of the contents in `cache_text`: equal contents have equal digests."""
    return content_digest(strict_json.frozen_copy(_told(document))[1])


def content_digest(text: bytes) -> str:
    """A digest of canonical JSON."""
    return blake2b(text, digest_size=16).hexdigest()


def _told(document: Document) -> dict[str, Any]:
    return without_passwords(document.contents)
