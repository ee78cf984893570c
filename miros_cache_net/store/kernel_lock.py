"""The kernel's lock (`flock`) on the lock file beside a document.

It belongs to an open file description: the kernel gives it back when the process dies, waiting for it is fair,
and a forked child, which shares the description, closes its descriptor without unlocking.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable

from miros_cache_net.errors import UnsupportedPlatform
from miros_cache_net.store.network_fs import warn_if_network
from miros_cache_net.store.regular import close_quietly, open_lock_file

try:
    import fcntl
except ImportError:  # pragma: no cover - native Windows
    raise UnsupportedPlatform("native Windows has no flock; use WSL, Linux or macOS") from None


class KernelLock:
    """The lock on the file at `path`, which is made when first needed.  Not shared between threads.

    Raises `OSError` and, for what is no lock file, `FileRefused`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.fd = -1
        self.held = False
        self._waiter: _Waiter | None = None
        _alive.add(self)

    def try_lock(self) -> bool:
        """Take the lock if it is free, or was granted to the helper thread; True if it is held now."""
        if self._waiter is not None:
            if not self._waiter.done:
                return False
            self._waiter = None
        while not self.held:
            self._open()
            try:
                # after a grant the lock is this description's already, and this call changes nothing
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.held = self._is_current()
        return True

    def lock(self) -> None:
        """Wait in the kernel until the lock is held."""
        while not self.held:
            self._open()
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            self.held = self._is_current()

    def await_free(self, timeout_s: float) -> bool:
        """Wait until nobody holds the lock of the file that is open here; then only `close` may follow.

        False if somebody still holds it after `timeout_s`.  Raises `RuntimeError` where no helper thread can be had.
        """
        free = threading.Lock()
        free.acquire()
        self._waiter = _Waiter(self.fd, os.path.basename(self.path), free.release, fcntl.LOCK_SH, fcntl.LOCK_UN)
        return free.acquire(timeout=timeout_s)

    def append(self, text: bytes) -> int:
        """Write `text` at the end of the open file, whole among what others append; where it begins.

        Raises `OSError`; -1 where the disk had no room for all of it.
        """
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_APPEND)
        written = os.write(self.fd, text)
        # else all writes would go to the end
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)
        return os.lseek(self.fd, 0, os.SEEK_CUR) - written if written == len(text) else -1

    def await_grant(self, granted: Callable[[], None]) -> None:
        """Have a helper thread wait for the lock and then call `granted`; `try_lock` takes it over from there."""
        if self._waiter is None and not self.held:
            self._open()
            self._waiter = _Waiter(self.fd, os.path.basename(self.path), granted, fcntl.LOCK_EX)

    @property
    def granted(self) -> bool:
        """The helper thread has come back and nobody has taken over from it yet."""
        return self._waiter is not None and self._waiter.done

    def unlock(self) -> None:
        """Give the lock back, held or not; never raises."""
        if self.fd < 0 or self._waiter is not None:
            return
        self.held = False
        try:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        except OSError:
            self._close_fd()

    def close(self) -> None:
        """Give up lock and descriptor; a helper thread still waiting gives its grant back by itself."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self.unlock()
            self._close_fd()
        else:
            self.held, self.fd = False, -1
            waiter.abandon()

    def _open(self) -> None:
        if self.fd < 0:
            with _opening:
                self.fd = open_lock_file(self.path)
            warn_if_network(self.path)

    def _close_fd(self) -> None:
        fd, self.fd, self.held = self.fd, -1, False
        close_quietly(fd)

    def _is_current(self) -> bool:
        """The locked inode is still the one that others would lock; if not, it is given up."""
        mine = os.fstat(self.fd)
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            named = None
        if named is not None and (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino):
            return True
        self._close_fd()
        return False

    def _forked(self) -> None:
        # closing leaves the parent its lock, unlocking would not
        self._waiter = None
        self._close_fd()


class _Waiter:
    """A thread that blocks in flock, step by step, until all is done, or nobody wants it any more."""

    def __init__(self, fd: int, name: str, granted: Callable[[], None], *steps: int) -> None:
        self._fd = fd
        self._steps = steps
        self._granted = granted
        self._guard = threading.Lock()
        self._abandoned = False
        self.done = False
        threading.Thread(target=self._wait, name=f"lock waiter {name}", daemon=True).start()

    def _wait(self) -> None:
        # where the kernel refuses, whoever is told tries for himself and hears why
        with contextlib.suppress(OSError):
            for step in self._steps:
                fcntl.flock(self._fd, step)
        with self._guard:
            self.done = True
            if self._abandoned:
                close_quietly(self._fd)
                return
        self._granted()

    def abandon(self) -> None:
        """The descriptor, and with it the lock, goes now if the thread is done, else when it is."""
        with self._guard:
            self._abandoned = True
            if self.done:
                close_quietly(self._fd)


_alive: weakref.WeakSet[KernelLock] = weakref.WeakSet()
#: No fork between the opening of a descriptor and its being known here: the child would keep it open for ever.
_opening = threading.RLock()


def _after_fork() -> None:
    _opening.release()
    for lock in list(_alive):
        lock._forked()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork)
