"""Being told by the kernel that the document may have changed.

The directory is watched, because every write puts a new inode in the document's place.  Attribute changes (the mode
bit) are no contents and wake nobody.
Where the kernel gives no more watches (128 inotify instances a user) the document's identity is looked at
slowly instead, which is said once in the log; so it is while the directory is missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from miros_cache_net import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class ChangeSource(Protocol):
    """Tells that the document may have changed, until it is closed."""

    def close(self) -> None:
        """End it; from any thread."""


#: Makes one for a document: `changed` is called, soon after a change and maybe more often than needed.
ChangeSourceFactory = Callable[[Path, Callable[[], None]], ChangeSource]

log = logging.getLogger(__name__)
_said = threading.Event()


class FileWatch:
    """Calls `changed` (on a thread of its own, soon, maybe more often than needed) after `path` changed.

    Never raises for what the kernel or the file system refuses.
    """

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._guard = threading.Lock()
        self._closed = False
        self._watch: ChangeSource
        self._start()

    def close(self) -> None:
        """End it; returns when its threads are gone, unless called by one of them."""
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
    # imported here: a program that never watches pays nothing for it
    if sys.platform == "linux":
        from miros_cache_net.store.inotify_watch import InotifyWatch

        return InotifyWatch
    from miros_cache_net.store.observer_watch import ObserverWatch

    return ObserverWatch


def _say_once(path: Path, error: OSError) -> None:
    if not _said.is_set():
        _said.set()
        log.warning(
            "%s: the kernel gives no more file watches (%s); looking every %g s instead. "
            "Raise fs.inotify.max_user_instances to be told at once",
            path,
            error.strerror or error,
            limits.SLOW_STAT_S,
        )


class _SlowLook:
    """Looks at the document's identity now and then; `directory_back` is called instead once there is one again."""

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
