"""Which chart an event is for, and what it asks for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from miros_cache_net.charts import registry
from miros_cache_net.errors import PayloadError
from miros_cache_net.store.changes import AddressedChange, Change, write_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from miros_cache_net.named_tuple import NamedTuple


class Addressee(NamedTuple):
    """Whether the payload of an event is meant for a chart; `error` is what that chart has to report."""

    mine: bool
    error: str = ""
    ambiguous: bool = False


def addressee(file_name: str | None, chart: registry.FileChart, posted: bool) -> Addressee:
    """Is an event that names `file_name` (None: no file) for `chart`?  `posted`: directly to it."""
    default = registry.default_chart()
    if file_name is None:
        return Addressee(posted or chart is default)
    if posted:
        fits = registry.fits(file_name, chart)
        return Addressee(fits, "" if fits else f"{file_name!r} is not the file of this chart, {chart.file_path}")
    fitting = registry.fitting(file_name)
    if not fitting:
        return Addressee(False, f"no chart of this process guards {file_name!r}" if chart is default else "")
    if len(fitting) > 1:
        paths = ", ".join(each.file_path for each in fitting)
        error = f"the base name {file_name!r} fits {paths}; give the path" if fitting[0] is chart else ""
        return Addressee(False, error, ambiguous=True)
    return Addressee(fitting[0] is chart)


def parse_write(payload: Any) -> tuple[str | None, Callable[[], Change]]:
    """The file name in the payload of `CACHE_FILE_WRITE` (None: a bare dict), and how to make its change.

    Raises `PayloadError` where the payload is neither a mapping nor has ``json`` and ``file_name``; making
    the change raises it where the contents are no document.
    """
    if isinstance(payload, AddressedChange):
        return payload.file_path, lambda: payload.change
    if isinstance(payload, dict):
        return None, lambda: write_of(payload)
    contents, name = getattr(payload, "json", None), getattr(payload, "file_name", None)
    if contents is None or not isinstance(name, (str, Path)):
        raise PayloadError(
            f"CACHE_FILE_WRITE wants a dict or CacheWritePayload(json, file_name), not {type(payload).__name__}"
        )
    return os.fspath(name), lambda: write_of(contents)
