"""Exclusive access to a cache file: the kernel's lock excludes, the mode bit makes it visible.

`flock` is taken on the lock file beside the document (`store.sidecar`); while it is held the document is
un-writable, so that programs that know only the mode bit keep away.  See DESIGN 2, "What really excludes".
The lock belongs to an open file description: one `ExclusiveAccess` a thread, and a forked child closes the
descriptor without unlocking.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document import Stamp
from miros_cache_net.errors import FileRefused, Reason, UnsupportedPlatform
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar

try:
    import fcntl
except ImportError:  # pragma: no cover - native Windows
    raise UnsupportedPlatform("native Windows has no flock; use WSL, Linux or macOS") from None

WRITE_BITS = 0o222
Notice = Callable[[Reason, str], None]


class Outcome(Enum):
    """What came of an attempt to enter."""

    ENTERED = "entered"
    LOCKED = "locked"  # another of our processes or charts is inside
    HELD = "held"  # a program that knows only the mode bit (or a person) holds the file


class ExclusiveAccess:
    """The right to change one document, entered and left; not shared between threads.

    `try_enter` never blocks; `await_grant` waits in the kernel on a helper thread; `enter` blocks the caller.
    Once inside, `mark` makes it visible; `leave` undoes both.
    Every method raises `StoreError` for what the operating system refuses.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock = SYSTEM_CLOCK,
        node_name: str | None = None,
        take_over_after_s: float = limits.TAKE_OVER_AFTER_S,
        notice: Notice = lambda _reason, _message: None,
    ) -> None:
        self.path = path
        self.record = Sidecar("none", "")
        self.document_fd = -1
        self.recovered = False  # the one before us died inside
        self._clock = clock
        self._node_name = node_name
        self._take_over_after_s = take_over_after_s
        self._notice = notice
        self._fd = -1
        self._locked = False
        self._waiter: _Waiter | None = None
        self._held_since: float | None = None
        _alive.add(self)

    def try_enter(self) -> Outcome:
        """Enter if that is possible at once."""
        try:
            if not self._locked and not self._try_lock():
                return Outcome.LOCKED
            return self._enter_locked()
        except OSError as error:
            self._unlock()
            raise store_error(error, self.path) from error
        except BaseException:
            self._unlock()
            raise

    def enter(self) -> Outcome:
        """Wait in the kernel for the lock, then enter; `Outcome.HELD` if a stranger holds the file."""
        try:
            while not self._locked:
                self._open()
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                self._locked = self._lock_is_current()
            return self._enter_locked()
        except OSError as error:
            self._unlock()
            raise store_error(error, self.path) from error
        except BaseException:
            self._unlock()
            raise

    def await_grant(self, granted: Callable[[], None]) -> None:
        """Have a helper thread wait for the lock; it calls `granted` when this access owns it.

        The next `try_enter` then finds the lock taken; `leave` or `close` gives it back.
        """
        if self._waiter is None and not self._locked:
            self._open()
            self._waiter = _Waiter(self._fd, self.path.name, granted)

    def mark(self) -> None:
        """Inside: make the document un-writable, after the lock file says who did so."""
        try:
            write_sidecar(self._fd, self.record)
            if self.document_fd >= 0:
                _change_mode(self.document_fd, self.record.mode & ~WRITE_BITS)
        except OSError as error:
            raise store_error(error, self.path) from error

    def give_back(self) -> None:
        """Decline a grant that nothing waits for any more."""
        if not self._locked and self._waiter is not None and self._waiter.granted and self._try_lock():
            self._unlock()

    def leave(self, digest: str | None = None, clock: Stamp | None = None) -> None:
        """Make the document writable again, clear the mark and unlock.  Never raises."""
        if not self._locked:
            return
        with contextlib.suppress(OSError):
            if self.document_fd >= 0:
                _change_mode(self.document_fd, self.record.mode)
        with contextlib.suppress(OSError):
            self.record = self.record.cleared(digest, clock)
            write_sidecar(self._fd, self.record)
        self._unlock()

    def replaced_by(self, fd: int) -> None:
        """The document has a new inode, open as `fd` (now owned here)."""
        if self.document_fd >= 0:
            os.close(self.document_fd)
        self.document_fd = fd

    def mode_on_leave(self, mode: int) -> None:
        """The document had no mode to give back: this will be its mode."""
        self.record = replace(self.record, mode=mode)

    def close(self) -> None:
        """Leave, and give up the descriptor; a waiting helper thread gives its grant back by itself."""
        self.leave()
        self._unlock()
        if self._waiter is not None:
            self._waiter.abandon()
            self._waiter = None
            self._fd = -1
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- the kernel's lock ------------------------------------------------------------------------

    def _try_lock(self) -> bool:
        if self._waiter is not None:
            if not self._waiter.granted:
                return False
            self._waiter = None
            self._locked = self._lock_is_current()
            if self._locked:
                return True
        while True:
            self._open()
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self._lock_is_current():
                self._locked = True
                return True

    def _lock_is_current(self) -> bool:
        """The locked inode is still the one that others would lock; if not, give it up."""
        mine = os.fstat(self._fd)
        try:
            named = os.stat(sidecar_path(self.path), follow_symlinks=False)
        except FileNotFoundError:
            named = None
        if named is not None and (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino):
            return True
        os.close(self._fd)
        self._fd = -1
        return False

    def _unlock(self) -> None:
        if self.document_fd >= 0:
            os.close(self.document_fd)
            self.document_fd = -1
        if self._locked:
            self._locked = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _open(self) -> None:
        if self._fd >= 0:
            return
        _check_directory(self.path.parent)
        name = sidecar_path(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, flags, 0o600 | _shared_with_group(self.path))
        try:
            _check_regular(fd, name)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    # --- the visible mark -------------------------------------------------------------------------

    def _enter_locked(self) -> Outcome:
        self.record = read_sidecar(self._fd, self._node_name)
        self.recovered = bool(self.record.holder)
        self.document_fd, mode = _open_document(self.path)
        if self.document_fd >= 0 and mode & WRITE_BITS == 0:
            if not self.recovered and not self._take_over_due():
                self._unlock()
                return Outcome.HELD
            mode = self.record.mode or mode | stat.S_IWUSR
        self._held_since = None
        self.record = self.record.marked(mode)
        return Outcome.ENTERED

    def _take_over_due(self) -> bool:
        now = self._clock.monotonic_s()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < self._take_over_after_s:
            return False
        self._notice(
            Reason.TAKEN_OVER,
            f"{self.path}: un-writable for {self._take_over_after_s:g} s and nobody came back to it; taken over",
        )
        return True

    def _forked(self) -> None:
        """In a forked child: the parent keeps its lock, so close without unlocking."""
        for fd in {self._fd, self.document_fd} - {-1}:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fd = self.document_fd = -1
        self._locked, self._waiter = False, None


class _Waiter:
    """A thread that blocks in flock until it has the lock (or nobody wants it any more)."""

    def __init__(self, fd: int, name: str, granted: Callable[[], None]) -> None:
        self._fd = fd
        self._tell = granted
        self._guard = threading.Lock()
        self._abandoned = False
        self.granted = False
        threading.Thread(target=self._wait, name=f"lock waiter {name}", daemon=True).start()

    def _wait(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        with self._guard:
            if self._abandoned:
                os.close(self._fd)
                return
            self.granted = True
        self._tell()

    def abandon(self) -> None:
        """The descriptor is closed now if the lock was granted, else as soon as it is."""
        with self._guard:
            self._abandoned = True
            if self.granted:
                os.close(self._fd)


def _shared_with_group(document: Path) -> int:
    """Group bits of the lock file: those that the document itself gives to its group's writers."""
    try:
        mode = os.stat(document, follow_symlinks=False).st_mode
    except OSError:
        mode = os.stat(document.parent).st_mode
    return 0o060 if mode & stat.S_IWGRP else 0


def _change_mode(fd: int, mode: int) -> None:
    # only the owner may; among several users the kernel's lock excludes and the bit is best effort
    with contextlib.suppress(PermissionError):
        os.fchmod(fd, mode)


def _open_document(path: Path) -> tuple[int, int]:
    """A descriptor and the permission bits of the document; (-1, 0) where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return -1, 0
    try:
        return fd, stat.S_IMODE(_check_regular(fd, path).st_mode)
    except BaseException:
        os.close(fd)
        raise


def _check_regular(fd: int, path: Path) -> os.stat_result:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused(f"{path}: it is no regular file; name a file of its own")
    if status.st_nlink > 1:
        raise FileRefused(f"{path}: it has {status.st_nlink} hard links; give it a name of its own")
    return status


def _check_directory(directory: Path) -> None:
    if os.stat(directory).st_mode & stat.S_ISVTX:
        raise FileRefused(f"{directory}: a sticky directory is everybody's; put the cache in one of its own")


_alive: weakref.WeakSet[ExclusiveAccess] = weakref.WeakSet()


def _after_fork() -> None:
    for access in list(_alive):
        access._forked()


os.register_at_fork(after_in_child=_after_fork)
