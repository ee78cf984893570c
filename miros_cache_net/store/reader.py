"""Reading the document again and again without a lock, and parsing it only when it has changed.

A parsed document is kept and handed out again while `stat` shows the very inode whose descriptor is still
open here.  The descriptor matters: inode numbers, times and sizes alone repeat, an open inode's cannot.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

from miros_cache_net import limits
from miros_cache_net.document.value import Document
from miros_cache_net.store.regular import close_quietly
from miros_cache_net.store.snapshot import Snapshot, identity_of, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SnapshotReader:
    """Reads one file; thread-safe.  `default` is what a missing file shows."""

    def __init__(self, path: str | os.PathLike[str], default: Mapping[str, Any] | None = None) -> None:
        self.default = Document.unwritten(default or {})
        self._name = os.fspath(path)
        self._guard = threading.Lock()
        self._fd = -1
        self._identity: tuple[int, ...] = ()
        self._last: Snapshot | None = None

    def read(self) -> Snapshot:
        """The present state; raises as `read_file` does, but for a missing file."""
        with self._guard:
            try:
                if self._last is not None and identity_of(os.lstat(self._name)) == self._identity:
                    return self._last
                return self._read()
            except FileNotFoundError:
                return Snapshot(self.default, False, None)

    def adopt(self, snapshot: Snapshot, fd: int) -> None:
        """Keep what was just stored instead of parsing it again; `fd` is an open descriptor of its inode."""
        with self._guard:
            self._keep(snapshot, os.dup(fd))

    def close(self) -> None:
        """Forget what was read."""
        with self._guard:
            self._forget()

    def _read(self) -> Snapshot:
        snapshot, fd = read_file(self._name)
        status = snapshot.status
        if snapshot.foreign and status is not None and time.time() - status.st_ctime < limits.SETTLE_S:
            # written in place perhaps, and again before the file system's clock ticks: not to be kept
            os.close(fd)
        else:
            self._keep(snapshot, fd)
        return snapshot

    def _keep(self, snapshot: Snapshot, fd: int) -> None:
        self._forget()
        self._fd, self._last = fd, snapshot
        self._identity = identity_of(snapshot.status) if snapshot.status is not None else ()

    def _forget(self) -> None:
        self._last = None
        fd, self._fd = self._fd, -1
        close_quietly(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self._forget()
