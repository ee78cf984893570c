"""Notices from the kernel that the document may have changed.

The watch is on the directory, because every write replaces the document's inode.  Attribute changes (the mode
bit) do not change the contents and wake no thread.
If the kernel grants no more watches (128 inotify instances per user), the document's identity is polled slowly
instead, with one line in the log; it is polled too while the directory is missing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from miros_cache_net import limits
from miros_cache_net.logs import module_log


class ChangeSource(Protocol):
    """Reports that the document may have changed, until it is closed."""

    def close(self) -> None:
        """End the notices; from any thread."""


#: Makes a source for a document; it calls `changed` soon after a change, perhaps more often than necessary.
ChangeSourceFactory = Callable[[Path, Callable[[], None]], ChangeSource]

log = module_log(__name__)
_said = threading.Event()


class FileWatch:
    """Calls `changed` on a thread of its own soon after `path` changed, perhaps more often than necessary.

    Does not raise if the kernel or the file system refuses a watch.
    """

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._guard = threading.Lock()
        self._closed = False
        self._watch: ChangeSource
        self._start()

    def close(self) -> None:
        """End the watch; returns once its threads have ended, unless one of them is the caller."""
        with self._guard:
            self._closed = True
            watch = self._watch
        watch.close()

    def _start(self) -> None:
        with self._guard:
            if self._closed:
                return
            try:
                self._watch = _kernel_watch()(self._path, self._changed, self._directory_lost)
            except OSError as error:
                missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
                if not missing:
                    _say_once(self._path, error)
                self._watch = _SlowLook(self._path, self._changed, self._start if missing else None)

    def _directory_lost(self) -> None:
        with self._guard:
            if not self._closed:
                self._watch.close()
                self._watch = _SlowLook(self._path, self._changed, self._start)


def _kernel_watch() -> Callable[[Path, Callable[[], None], Callable[[], None]], ChangeSource]:
    # Imported here: a program that never watches does not pay for it.
    if sys.platform == "linux":
        from miros_cache_net.store.inotify_watch import InotifyWatch

        return InotifyWatch
    from miros_cache_net.store.observer_watch import ObserverWatch

    return ObserverWatch


def _say_once(path: Path, error: OSError) -> None:
    if not _said.is_set():
        _said.set()
        log.warning(
            "%s: the kernel grants no more file watches (%s); polling every %g s instead. "
            "Raise fs.inotify.max_user_instances to get changes at once",
            path,
            error.strerror or error,
            limits.SLOW_STAT_S,
        )


class _SlowLook:
    """Polls the document's identity; once a missing directory is back, calls `directory_back` and ends."""

    def __init__(self, path: Path, changed: Callable[[], None], directory_back: Callable[[], None] | None) -> None:
        self._path = path
        self._changed = changed
        self._directory_back = directory_back
        self._last = self._identity()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"slow look {path.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(limits.SLOW_STAT_S):
            if self._directory_back is not None and self._path.parent.is_dir():
                self._directory_back()
                self._changed()
                return
            now = self._identity()
            if now != self._last:
                self._last = now
                self._changed()

    def _identity(self) -> tuple[int, ...]:
        with contextlib.suppress(OSError):
            status = os.stat(self._path, follow_symlinks=False)
            return status.st_ino, status.st_mtime_ns, status.st_size
        return ()
