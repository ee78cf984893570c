"""The cache file charts of this process: which one an event is meant for."""

from __future__ import annotations

import os
import threading
import weakref

from miros_cache_net.store.paths import cache_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class FileChart(Protocol):
    """What the registry wants to know of a chart."""

    file_path: str
    file_name: str
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
    charts = registered()
    # mostly somebody names a chart's file just as the chart does, which takes no look at the file system
    if not any(chart.file_path == file_name for chart in charts) and not _is_base_name(file_name):
        file_name = cache_file(file_name)
    fits: dict[str, FileChart] = {}
    for chart in charts:
        if file_name in (chart.file_path, chart.file_name):
            fits.setdefault(chart.file_path, chart)
    return list(fits.values())


def fits(file_name: str, chart: FileChart) -> bool:
    """`file_name` is the path of the file of `chart`, or its base name."""
    if file_name in (chart.file_path, chart.file_name):
        return True
    return not _is_base_name(file_name) and cache_file(file_name) == chart.file_path


def _is_base_name(file_name: str) -> bool:
    return os.path.basename(file_name) == file_name


def _in_child() -> None:
    _charts.clear()
    _guard.release()


# the charts of the parent process have no threads in a forked child
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_in_child)
