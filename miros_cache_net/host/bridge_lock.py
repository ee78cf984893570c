"""One link per host: the process that holds the bridge lock connects to RabbitMQ, the others follow.

It is a kernel lock on a file beside the cache file.  Its name includes broker, scope and key identity, so that no
process follows a bridge into another fleet.  The kernel releases the lock when its holder dies, and one of the waiting
processes gets it at once.  The bridge writes to the file whether its link is up, for hosts without a socket.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from miros_cache_net.host import forks

_LINKED = b"linked\n"
_UNLINKED = b"alone!\n"


def bridge_lock_path(document: Path, identity: Iterable[str]) -> Path:
    """The lock file for `document` in the fleet that `identity` (brokers, exchange, scope, key id) describes."""
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:12]
    return document.with_name(f".{document.name}.bridge-{digest}.lock")


class BridgeLock:
    """Takes the bridge lock, or waits for it on a thread of its own and calls `taken` there once this process has it.

    `open_file` opens the lock file at a path, for reading and writing; its exceptions reach the caller.
    """

    def __init__(self, path: Path, taken: Callable[[], None], open_file: Callable[[str], int]) -> None:
        self.path = path
        self._taken = taken
        with forks.opening:
            self._fd = open_file(os.fspath(path))
            forks.remember(self)
        self.status = os.fstat(self._fd)
        """The lock file's status, which says whom it admits."""
        self._guard = threading.Lock()
        self._closed = False
        self._held = False
        self._waiting = False

    @property
    def held(self) -> bool:
        """This process is the bridge."""
        return self._held

    @property
    def linked(self) -> bool:
        """The current bridge of this host, whichever process it is, has recorded that its link is up."""
        with self._guard:
            return not self._closed and os.pread(self._fd, len(_LINKED), 0) == _LINKED

    def start(self) -> bool:
        """Take the lock if it is free (True), else begin to wait for it; a repeated call changes nothing.

        Raises `RuntimeError` if no thread can be started to wait.
        """
        if self._held or self._waiting:
            return self._held
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._waiting = True
            try:
                threading.Thread(target=self._wait, name=f"bridge lock {self.path.name}", daemon=True).start()
            except RuntimeError:
                self._waiting = False
                raise
            return False
        return self._has_it()

    def set_linked(self, linked: bool) -> None:
        """Record whether the bridge's link is up."""
        with self._guard:
            if self._held and not self._closed:
                self._write(_LINKED if linked else _UNLINKED)

    def close(self) -> None:
        """Release the lock, or stop waiting for it; the waiting thread ends as soon as it gets the lock."""
        self.set_linked(False)
        with self._guard:
            if not self._waiting:
                self._close_fd()
            self._closed = True
            self._held = False
            # The waiting thread must not keep its owner's objects alive.
            self._taken = _nothing

    def close_in_child(self) -> None:
        # The lock belongs to the open file, which the child shares: an open copy would block the parent's successor.
        self._guard = threading.Lock()
        self._closed = True
        self._held = False
        self._close_fd()

    def _wait(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        if self._has_it():
            self._taken()

    def _has_it(self) -> bool:
        with self._guard:
            self._waiting = False
            if self._closed:
                self._close_fd()
                return False
            self._held = True
            self._write(_UNLINKED)
            return True

    def _write(self, text: bytes) -> None:
        # A full disk is no reason to leave the host without a bridge.
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, text, 0)

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _nothing() -> None:
    pass
