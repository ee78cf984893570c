"""Repeated reads of the document without a lock; it is parsed only after a change.

A parsed document is kept and returned again while `stat` shows the inode whose descriptor is still open
here.  The descriptor matters: inode numbers, times and sizes repeat, but not while the inode is open.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from miros_cache_net import limits
from miros_cache_net.document.value import Document
from miros_cache_net.store.regular import close_quietly
from miros_cache_net.store.snapshot import Snapshot, identity_of, read_file


class SnapshotReader:
    """Reads one file; thread-safe.  A missing file reads as `default`."""

    def __init__(self, path: str | os.PathLike[str], default: Mapping[str, Any] | None = None) -> None:
        self.default = Document.unwritten(default or {})
        self._name = os.fspath(path)
        self._guard = threading.Lock()
        self._fd = -1
        self._identity: tuple[int, ...] = ()
        self._last: Snapshot | None = None

    def read(self) -> Snapshot:
        """The current state; raises as `read_file` does, but not for a missing file."""
        with self._guard:
            try:
                if self._last is not None and identity_of(os.lstat(self._name)) == self._identity:
                    return self._last
                return self._read()
            except FileNotFoundError:
                return Snapshot(self.default, False, None)

    def adopt(self, snapshot: Snapshot, fd: int) -> None:
        """Keep a snapshot that was just stored, to avoid parsing it; `fd` is an open descriptor of its inode."""
        with self._guard:
            self._keep(snapshot, os.dup(fd))

    def close(self) -> None:
        """Forget the last snapshot."""
        with self._guard:
            self._forget()

    def _read(self) -> Snapshot:
        snapshot, fd = read_file(self._name)
        status = snapshot.status
        if snapshot.foreign and status is not None and time.time() - status.st_ctime < limits.SETTLE_S:
            # Do not keep it: a program that writes in place may write again before the file system's clock ticks.
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
