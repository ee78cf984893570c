"""An update of a document that nobody wrote, or that was destroyed, as the rules of merging want it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from miros_cache_net.document.value import Document, Floor, Stamp


def updated(
    document: Document, changes: dict[str, Any], gone: Iterable[str], stamp: Stamp, discovered_ms: int
) -> Document:
    """It leaves the floor where it is, or at the weakest that a written document can have."""
    if not document.is_written:
        weakest = Stamp(0, 0, stamp.node)
        entries = {key: entry._replace(stamp=weakest) for key, entry in document.entries.items()}
        document = Document(Floor(weakest, discovered_ms), entries)
    elif document.is_empty:
        document = Document(Floor(document.floor.stamp, discovered_ms), document.entries)
    return document.updated(changes, gone, stamp, discovered_ms)
