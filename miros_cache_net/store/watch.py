"""Being told by the kernel that the document may have changed.

Through `watchdog` (inotify on Linux, FSEvents on macOS).  The directory is watched, because every write
puts a new inode in the document's place.  Attribute changes (the mode bit) are no contents and wake nobody.
Where the kernel gives no more watches (128 inotify instances a user) the document's identity is looked at
slowly instead, which is said once in the log; so it is while the directory is missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from miros_cache_net import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol
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
# a watch that is closed while an event arrives says so as an error; nothing is lost by it
logging.getLogger("watchdog.observers.inotify").addFilter(
    lambda record: "when the thread is inactive" not in record.getMessage()
)


class FileWatch:
    """Calls `changed` (on a thread of its own, soon, maybe more often than needed) after `path` changed.

    Never raises for what the kernel or the file system refuses.
    """

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._guard = threading.Lock()
        self._closed = False
        self._watch: _KernelWatch | _SlowLook
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
                self._watch = _KernelWatch(self._path, self._changed, self._directory_lost)
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


class _KernelWatch:
    def __init__(self, path: Path, changed: Callable[[], None], directory_lost: Callable[[], None]) -> None:
        # imported here: a program that never watches pays nothing for it
        from watchdog import events
        from watchdog.observers import Observer

        name, directory = os.fspath(path), os.fspath(path.parent)

        class Handler(events.FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if name in (event.src_path, event.dest_path):
                    changed()
                elif event.src_path == directory and isinstance(event, events.DirDeletedEvent):
                    directory_lost()

        wanted: list[Any] = [
            events.FileMovedEvent,
            events.FileClosedEvent,
            events.FileDeletedEvent,
            events.DirDeletedEvent,
        ]
        options: dict[str, Any] = {}
        if getattr(Observer, "__name__", "") == "InotifyObserver":
            # What comes from another directory counts as moved then.  Without, it counts as made, as does each
            # temporary file of every writer, which takes three threads of watchdog a turn.
            options["generate_full_events"] = True
        else:
            wanted.append(events.FileCreatedEvent)
        os.stat(directory)
        self._observer = Observer(**options)
        try:
            self._observer.schedule(Handler(), directory, event_filter=wanted)
            self._observer.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._observer.stop()
        if self._observer.is_alive() and threading.current_thread() is not self._observer:
            self._observer.join()


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
