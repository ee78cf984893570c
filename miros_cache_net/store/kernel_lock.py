"""The kernel's lock (`flock`) on the lock file beside a document.

The lock belongs to an open file description: the kernel releases it when the process dies, and a forked child, which
shares the description, closes its descriptor without unlocking.  Processes get it in the order in which they wait, but
one that asks just when it is released may be faster.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable

from miros_cache_net.errors import UnsupportedPlatform
from miros_cache_net.store.network_fs import warn_if_network
from miros_cache_net.store.regular import close_quietly

try:
    import fcntl
except ImportError:  # pragma: no cover - native Windows
    raise UnsupportedPlatform("native Windows has no flock; use Linux") from None

from miros_cache_net.store.lock_file import open_lock_file


def _refuse_green_threads() -> None:
    # A wait in the kernel would block all green threads, among them the one that holds the lock.
    for library, module in (("gevent", "gevent.monkey"), ("eventlet", "eventlet.patcher")):
        monkey = sys.modules.get(module)
        patched = getattr(monkey, "is_module_patched", None) or getattr(monkey, "is_monkey_patched", None)
        if patched is not None and patched("threading" if library == "gevent" else "thread"):
            raise UnsupportedPlatform(
                f"{library} has replaced the threads of this program, and a wait for the file would block them all; "
                "write from a process without it (`miros-cache-net update`); `read_cache` works"
            )


class KernelLock:
    """The lock on the file at `path`, which is created when first needed.  Not shared between threads.

    Raises `OSError`, and `FileRefused` if the file cannot be a lock file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        _refuse_green_threads()
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
                # After a grant this description has the lock already, and the call changes nothing.
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
        """Take a shared lock on the open file once no process holds it exclusively; afterwards only `close` is allowed.

        False if the exclusive lock is still held after `timeout_s`.  Raises `RuntimeError` if no helper thread can be
        started.
        """
        free = threading.Lock()
        free.acquire()
        self._start(_Waiter(self.fd, os.path.basename(self.path), free.release, fcntl.LOCK_SH))
        return free.acquire(timeout=timeout_s)

    def append(self, text: bytes) -> int:
        """Append `text` to the open file atomically, beside other processes that append; returns its offset.

        Returns -1 if the disk had no room for all of it.  Raises `OSError`.
        """
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_APPEND)
        written = os.write(self.fd, text)
        # With O_APPEND left on, all writes would go to the end.
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)
        return os.lseek(self.fd, 0, os.SEEK_CUR) - written if written == len(text) else -1

    def await_grant(self, granted: Callable[[], None]) -> None:
        """Have a helper thread wait for the lock and then call `granted`; `try_lock` then takes the lock over."""
        if self._waiter is None and not self.held:
            self._open()
            self._start(_Waiter(self.fd, os.path.basename(self.path), granted, fcntl.LOCK_EX))

    @property
    def granted(self) -> bool:
        """The helper thread has the lock, and `try_lock` has not taken it over yet."""
        return self._waiter is not None and self._waiter.done

    def unlock(self) -> None:
        """Release the lock, held or not; never raises."""
        if self.fd < 0 or self._waiter is not None:
            return
        self.held = False
        try:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        except OSError:
            self._close_fd()

    def close(self) -> None:
        """Release the lock and close the descriptor; a helper thread that still waits releases its grant by itself."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self.unlock()
            self._close_fd()
        else:
            self.held, self.fd = False, -1
            waiter.abandon()

    def __del__(self) -> None:
        # No descriptor leaks in a program that drops the lock without closing it, or whose signal handler raised.
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def _start(self, waiter: _Waiter) -> None:
        # Set before `start`: a signal handler that raises in `start` leaves a thread that uses the descriptor.
        self._waiter = waiter
        try:
            waiter.start()
        except RuntimeError:
            self._waiter = None
            raise

    def _open(self) -> None:
        if self.fd < 0:
            with _opening:
                self.fd = open_lock_file(self.path)
            warn_if_network(self.path)

    def _close_fd(self) -> None:
        fd, self.fd, self.held = self.fd, -1, False
        close_quietly(fd)

    def _is_current(self) -> bool:
        """The locked inode is still the one that other processes would lock; otherwise it is closed."""
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
        # A close leaves the lock to the parent; an unlock would not.
        self._waiter = None
        self._close_fd()


class _Waiter:
    """A thread that blocks in flock for each of its steps, and then calls `granted` unless it was abandoned."""

    def __init__(self, fd: int, name: str, granted: Callable[[], None], *steps: int) -> None:
        self._fd = fd
        self._steps = steps
        self._granted = granted
        self._guard = threading.Lock()
        self._waits = self._abandoned = False
        self.done = False
        self._thread = threading.Thread(target=self._wait, name=f"lock waiter {name}", daemon=True)

    def start(self) -> None:
        """Begin to wait; raises `RuntimeError` if no thread can be started."""
        self._thread.start()

    def _wait(self) -> None:
        with self._guard:
            if self._abandoned:
                return
            self._waits = True
        # If the kernel refuses, the caller behind `granted` tries by itself and gets the error.
        with contextlib.suppress(OSError):
            for step in self._steps:
                fcntl.flock(self._fd, step)
        with self._guard:
            self.done = True
            wanted = not self._abandoned
        if wanted:
            self._granted()
            return
        with _opening:
            _left_behind.discard(self._fd)
            self._let_go()

    def abandon(self) -> None:
        """Close the descriptor, and release the lock with it: now if no thread waits, else once the thread is done."""
        with self._guard:
            self._abandoned = True
            waits = self._waits and not self.done
            if waits:
                _left_behind.add(self._fd)
        if not waits:
            self._let_go()

    def _let_go(self) -> None:
        # Unlock first: a child forked in the meantime may have the descriptor too, and would keep the lock.
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        close_quietly(self._fd)


_alive: weakref.WeakSet[KernelLock] = weakref.WeakSet()
#: Descriptors of abandoned threads that still wait in the kernel.
_left_behind: set[int] = set()
#: Prevents a fork between the opening of a descriptor and its registration here, after which the child would keep it
#: open forever; also between the removal of an abandoned one and its close.
_opening = threading.RLock()


def _after_fork() -> None:
    _opening.release()
    for lock in list(_alive):
        lock._forked()
    while _left_behind:
        close_quietly(_left_behind.pop())


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork)
