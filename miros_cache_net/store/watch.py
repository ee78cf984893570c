"""Being told by the kernel that the document may have changed.

Through `watchdog` (inotify on Linux, FSEvents on macOS).  The directory is watched, because every write
puts a new inode in the document's place.  Attribute changes (the mode bit) are no contents and wake nobody.
Where the kernel gives no more watches (128 inotify instances a user), the document's identity is looked at
slowly instead, which is said once in the log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miros_cache_net import limits

log = logging.getLogger(__name__)


class FileWatch:
    """Calls `changed` (on a thread of its own, soon, maybe more often than needed) after `path` changed."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._watch: _KernelWatch | _SlowStat
        try:
            self._watch = _KernelWatch(path, changed)
        except OSError as error:
            log.warning(
                "%s: the kernel gives no more file watches (%s); looking every %g s instead. "
                "Raise fs.inotify.max_user_instances to be told at once",
                path,
                error.strerror or error,
                limits.SLOW_STAT_S,
            )
            self._watch = _SlowStat(path, changed)

    def close(self) -> None:
        """End it; returns when its threads are gone, unless called by one of them."""
        self._watch.close()


class _KernelWatch:
    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        # imported here: a program that never watches pays nothing for it
        from watchdog import events
        from watchdog.observers import Observer

        class Handler(events.FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if os.fspath(path) in (event.src_path, event.dest_path):
                    changed()

        wanted: list[Any] = [events.FileMovedEvent, events.FileCreatedEvent, events.FileClosedEvent]
        self._observer = Observer()
        self._observer.schedule(Handler(), os.fspath(path.parent), event_filter=wanted)
        self._observer.start()

    def close(self) -> None:
        self._observer.stop()
        if threading.current_thread() is not self._observer:
            self._observer.join()


class _SlowStat:
    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=f"slow stat {path.name}", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        last = self._identity()
        while not self._stop.wait(limits.SLOW_STAT_S):
            now = self._identity()
            if now != last and not self._stop.is_set():
                last = now
                self._changed()

    def _identity(self) -> tuple[int, ...]:
        with contextlib.suppress(OSError):
            status = os.stat(self._path)
            return status.st_ino, status.st_mtime_ns, status.st_size
        return ()
