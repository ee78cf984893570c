"""File change notices on systems other than Linux, through `watchdog` (FSEvents on macOS, kqueue on BSD)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from watchdog import events
from watchdog.observers import Observer

_WANTED: Final[list[Any]] = [
    events.FileMovedEvent,
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileDeletedEvent,
    events.DirDeletedEvent,
]


class ObserverWatch:
    """As `inotify_watch.InotifyWatch`."""

    def __init__(self, path: Path, changed: Callable[[], None], directory_lost: Callable[[], None]) -> None:
        name, directory = os.fspath(path), os.fspath(path.parent)

        class Handler(events.FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if name in (event.src_path, event.dest_path):
                    changed()
                elif event.src_path == directory and isinstance(event, events.DirDeletedEvent):
                    directory_lost()

        os.stat(directory)
        self._observer = Observer()
        try:
            self._observer.schedule(Handler(), directory, event_filter=_WANTED)
            self._observer.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the watch; returns once its threads have ended, unless one of them is the caller."""
        self._observer.stop()
        if self._observer.is_alive() and threading.current_thread() is not self._observer:
            self._observer.join()
