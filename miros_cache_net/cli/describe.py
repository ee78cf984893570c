"""One line about a document: who discovered it, when, and when it expires."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from miros_cache_net.cli.output import duration_text
from miros_cache_net.document.layout import TIME_OUT_KEY
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.snapshot import UNSTAMPED_NODE


def age_line(payload: CacheReadPayload) -> str:
    """For example ``discovered 3 min ago by alpha-1f2e3d4c, expires in 57 min``."""
    if math.isinf(payload.age_s):
        return f"emptied by {payload.origin}, expired" if payload.origin else "nobody has written it yet"
    when = f"{duration_text(payload.age_s)} ago" if payload.age_s >= 1 else "just now"
    return f"discovered {when} by {origin_text(payload)}, {_expiry(payload)}"


def origin_text(payload: CacheReadPayload) -> str:
    """The node that wrote the document, in words."""
    return "a program that writes plain JSON" if payload.origin == UNSTAMPED_NODE else payload.origin


def difference(before: CacheReadPayload, now: CacheReadPayload) -> str:
    """Which keys are new, changed and gone."""
    return key_difference(before.dict, now.dict)


def key_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which keys of `new` are new and changed, and which of `old` are gone."""
    found = {
        "new": [key for key in new if key not in old],
        "changed": [key for key in new if key in old and new[key] != old[key]],
        "gone": [key for key in old if key not in new],
    }
    return ", ".join(f"{name}: {' '.join(keys)}" for name, keys in found.items() if keys) or "written again, unchanged"


def _expiry(payload: CacheReadPayload) -> str:
    minutes = payload.dict.get(TIME_OUT_KEY)
    if minutes is None:
        return "never expires"
    known = isinstance(minutes, (int, float)) and not isinstance(minutes, bool)
    left_s = minutes * 60 - payload.age_s if known else 0
    if not payload.expired:
        return f"expires in {duration_text(left_s)}"
    return f"expired {duration_text(-left_s)} ago" if known and minutes > 0 else "expired at once"
