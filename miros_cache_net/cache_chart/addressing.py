"""The cache file charts of this process, the chart that an event is for, and the change that it asks for.

Separate from `chart`, because it belongs to all charts of a process and is tested without building one.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import NamedTuple, Protocol

from miros.event import Event

from miros_cache_net.errors import PayloadError
from miros_cache_net.events import CACHE_DESTROY, event
from miros_cache_net.settings.which_file import cache_file
from miros_cache_net.statechart.forks import PROCESS, in_child
from miros_cache_net.store.changes import AddressedChange, Change, Destroy, write_of


class FileChart(Protocol):
    """The part of a chart that the registry needs."""

    file_path: str
    file_name: str
    read_only: bool


_charts: list[weakref.ref[FileChart]] = []


def register(chart: FileChart) -> None:
    """Make `chart` a possible addressee of events; the first chart that is not read-only is the default."""
    with PROCESS.lock:
        _charts.append(weakref.ref(chart))


def unregister(chart: FileChart) -> None:
    """From now on no event is for `chart`."""
    with PROCESS.lock:
        _charts[:] = [each for each in _charts if each() not in (chart, None)]


def registered() -> list[FileChart]:
    """All charts, in the order in which they were built."""
    with PROCESS.lock:
        return [chart for each in _charts if (chart := each()) is not None]


def default_chart() -> FileChart | None:
    """The chart that gets a bare dict."""
    return next((chart for chart in registered() if not chart.read_only), None)


def _fitting(file_name: str) -> list[FileChart]:
    """The charts that match a path or a base name, one per file, in the order in which they were built."""
    charts = registered()
    # Usually the name is exactly the chart's own path, which needs no access to the file system.
    if not any(chart.file_path == file_name for chart in charts) and not _is_base_name(file_name):
        file_name = cache_file(file_name)
    fits: dict[str, FileChart] = {}
    for chart in charts:
        if file_name in (chart.file_path, chart.file_name):
            fits.setdefault(chart.file_path, chart)
    return list(fits.values())


def _fits(file_name: str, chart: FileChart) -> bool:
    """Whether `file_name` is the path or the base name of the chart's file."""
    if file_name in (chart.file_path, chart.file_name):
        return True
    return not _is_base_name(file_name) and cache_file(file_name) == chart.file_path


def _is_base_name(file_name: str) -> bool:
    return os.path.basename(file_name) == file_name


class Addressee(NamedTuple):
    """Whether an event is for a chart; `error` is the message that this chart has to report."""

    mine: bool
    error: str = ""
    ambiguous: bool = False


def addressee(file_name: str | None, chart: FileChart, posted: bool) -> Addressee:
    """Whether an event that names `file_name` (None: no file) is for `chart`.  `posted`: it was posted to the chart."""
    default = default_chart()
    if file_name is None:
        return Addressee(posted or chart is default)
    if posted:
        fits = _fits(file_name, chart)
        return Addressee(fits, "" if fits else f"{file_name!r} is not this chart's file, {chart.file_path}")
    fitting = _fitting(file_name)
    if not fitting:
        return Addressee(False, f"no chart of this process guards {file_name!r}" if chart is default else "")
    if len(fitting) > 1:
        paths = ", ".join(each.file_path for each in fitting)
        error = f"the base name {file_name!r} matches {paths}; give the path" if fitting[0] is chart else ""
        return Addressee(False, error, ambiguous=True)
    return Addressee(fitting[0] is chart)


def as_posted(e: Event) -> Event:
    """A copy of the event that is marked as posted to one chart, not published to all."""
    copy = event(e.signal_name, e.payload)
    copy.posted = True
    return copy


def was_posted(e: Event) -> bool:
    return bool(e.__dict__.get("posted"))


def asked_by(e: Event) -> tuple[str | None, Callable[[], Change]]:
    """The file that `CACHE_FILE_WRITE` or `CACHE_DESTROY` names (None: none), and a function that makes the change.

    Raises `PayloadError` if the payload is neither a mapping nor has ``json`` and ``file_name``; the function raises it
    if the contents are not a document.
    """
    if e.signal_name == CACHE_DESTROY:
        return None if e.payload is None else str(e.payload), Destroy
    payload = e.payload
    if isinstance(payload, AddressedChange):
        return payload.file_path, lambda: payload.change
    if isinstance(payload, dict):
        return None, lambda: write_of(payload)
    contents, name = getattr(payload, "json", None), getattr(payload, "file_name", None)
    if contents is None or not isinstance(name, (str, os.PathLike)):
        raise PayloadError(
            f"CACHE_FILE_WRITE needs a dict or CacheWritePayload(json, file_name), not {type(payload).__name__}"
        )
    return os.fspath(name), lambda: write_of(contents)


# The parent's charts have no threads in a forked child.
in_child(_charts.clear)
