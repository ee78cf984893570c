"""The cache file charts of this process: which one an event is meant for."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Protocol

from miros_cache_net.store.file_store import cache_path


class FileChart(Protocol):
    """What the registry wants to know of a chart."""

    path: Path
    read_only: bool


_guard = threading.Lock()
_charts: list[weakref.ref[FileChart]] = []


def register(chart: FileChart) -> None:
    """From now on events can be meant for `chart`; the first one that is not read-only is the default."""
    with _guard:
        _charts.append(weakref.ref(chart))


def unregister(chart: FileChart) -> None:
    """No event is meant for `chart` any more."""
    with _guard:
        _charts[:] = [each for each in _charts if each() not in (chart, None)]


def registered() -> list[FileChart]:
    """All charts, in the order in which they were built."""
    with _guard:
        return [chart for each in _charts if (chart := each()) is not None]


def default_chart() -> FileChart | None:
    """The chart that a bare dict goes to."""
    return next((chart for chart in registered() if not chart.read_only), None)


def fitting(file_name: str) -> list[FileChart]:
    """The charts that a path or a base name fits, one for each file, in the order in which they were built."""
    fits: dict[Path, FileChart] = {}
    for chart in registered():
        if fits_path(file_name, chart.path):
            fits.setdefault(chart.path, chart)
    return list(fits.values())


def fits_path(file_name: str, path: Path) -> bool:
    """`file_name` is `path`, or its base name."""
    if os.path.basename(file_name) == file_name:
        return file_name == path.name
    return cache_path(file_name) == path


def _in_child() -> None:
    _charts.clear()
    _guard.release()


# the charts of the parent process have no threads in a forked child
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_in_child)
