"""What Linux tells of one document: a thread that sleeps in the kernel, and one wake-up for each change.

Through `inotify_simple` and not through `watchdog`, whose three threads take turns at each event: beside a write that
is on its way to the fleet that costs a sixth of the way.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags, parse_events

_OF_THE_DOCUMENT: Final = flags.CLOSE_WRITE | flags.MOVED_FROM | flags.MOVED_TO | flags.DELETE
_DIRECTORY_LOST: Final = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT
#: Room for a dozen events of the longest names; what does not fit is read with the next ones.
_READ_BYTES: Final = 4096


class InotifyWatch:
    """Calls `changed` when `path` may have other contents, `directory_lost` at most once, as the last thing it does.

    Both on its own thread.  Raises `OSError` where the kernel gives no watch, or there is no directory.
    """

    def __init__(self, path: Path, changed: Callable[[], None], directory_lost: Callable[[], None]) -> None:
        self._name = path.name
        self._changed, self._directory_lost = changed, directory_lost
        self._guard = threading.Lock()
        self._closed = False
        self._kernel = INotify()
        try:
            wanted = _OF_THE_DOCUMENT | _DIRECTORY_LOST | flags.ONLYDIR
            self._watch = self._kernel.add_watch(path.parent, wanted)
            self._thread = threading.Thread(target=self._run, name=f"watch {path.name}", daemon=True)
            self._thread.start()
        except BaseException:
            self._kernel.close()
            raise

    def close(self) -> None:
        """End it; returns when its thread is gone, unless called by it."""
        with self._guard:
            if not self._closed:
                self._closed = True
                # the kernel says so, which wakes the thread; it has said so already where the directory has gone
                with contextlib.suppress(OSError):
                    self._kernel.rm_watch(self._watch)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closed and self._hear():
                pass
        finally:
            with self._guard:
                self._closed = True
                self._kernel.close()

    def _hear(self) -> bool:
        """Sleep until something happens, and pass it on; False at the end."""
        events = parse_events(os.read(self._kernel.fileno(), _READ_BYTES))
        if self._closed:
            return False
        if any(each.mask & _DIRECTORY_LOST for each in events):
            self._directory_lost()
            return False
        if any(each.name == self._name or each.mask & flags.Q_OVERFLOW for each in events):
            self._changed()
        return True
