"""Would a write of the cache file succeed?  A disk probe finds out by writing a temporary file beside it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.paths import opened_directory
from miros_cache_net.store.regular import SAFELY
from miros_cache_net.store.replace import temporary_name

_NO_THREAD: Final = "this process cannot start another thread to probe its disk: raise `ulimit -u`"


def try_disk(path: Path, most_bytes: int = limits.DOCUMENT_BYTES) -> None:
    """Write and remove a file beside `path`, of the same size but at most `most_bytes`; raises `OSError`."""
    size, name = 4096, temporary_name(path.name)
    with contextlib.suppress(FileNotFoundError):
        size = max(size, min(path.stat().st_size, limits.DOCUMENT_BYTES))
    with opened_directory(os.fspath(path)) as directory:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=directory)
        try:
            _check_room(fd, size)
            left = min(size, most_bytes)
            while left:
                left -= os.write(fd, bytes(left))
            os.fsync(fd)
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)


def _check_room(fd: int, size: int) -> None:
    status = os.fstatvfs(fd)
    free = status.f_bfree if os.geteuid() == 0 else status.f_bavail
    # Some file systems do not report their size.
    if status.f_blocks and free * status.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class DiskLook:
    """Probes the disk of `path` on demand, each time on a thread of its own, because a disk may hang.

    Thread-safe.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._guard = threading.Lock()
        self._waiting: list[Callable[[str], None]] = []
        self._began_s: float | None = None
        self._good_since_s: float | None = None
        self._last = ""

    @property
    def trouble(self) -> str:
        """What the last probe found, "" if nothing; or that the current one hangs."""
        with self._guard:
            return self._hanging(self._clock.monotonic_s()) or self._last

    def tell(self, done: Callable[[str], None]) -> None:
        """Call `done` with the trouble, "" if there is none: at once, or on another thread after a probe.

        A good result is valid for `limits.DISK_LOOK_S`.
        """
        now_s = self._clock.monotonic_s()
        with self._guard:
            answer = self._known(now_s)
            if answer is None:
                self._waiting.append(done)
                if self._began_s is None and not self._begin(now_s):
                    self._waiting.pop()
                    answer = _NO_THREAD
        if answer is not None:
            done(answer)

    def _hanging(self, now_s: float) -> str:
        if self._began_s is None or now_s - self._began_s < limits.DISK_LOOK_HANGS_S:
            return ""
        return f"{self._path}: the disk has not answered for {now_s - self._began_s:.0f} s"

    def _known(self, now_s: float) -> str | None:
        if hanging := self._hanging(now_s):
            return hanging
        is_good = self._good_since_s is not None and now_s - self._good_since_s < limits.DISK_LOOK_S
        return "" if is_good else None

    def _begin(self, now_s: float) -> bool:
        try:
            threading.Thread(target=self._look, name=f"disk {self._path.name}", daemon=True).start()
        except RuntimeError:
            return False
        self._began_s = now_s
        return True

    def _look(self) -> None:
        trouble = ""
        try:
            try_disk(self._path, limits.DISK_LOOK_BYTES)
        except OSError as error:
            trouble = str(store_error(error, self._path))
        with self._guard:
            waiting, self._waiting, self._last = self._waiting, [], trouble
            # A bad result is not kept: a probe of a full disk is fast, and callers must learn when there is room again.
            self._began_s, self._good_since_s = None, None if trouble else self._clock.monotonic_s()
        for done in waiting:
            done(trouble)
