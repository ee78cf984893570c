"""Exclusive access to a cache file: the kernel's lock excludes, the mode bit makes it visible.

The lock belongs to the lock file beside the document (`store.kernel_lock`).  While it is held the document is
un-writable, so that programs that know only the mode bit keep away.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from enum import Enum

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.value import Stamp
from miros_cache_net.errors import Reason
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.regular import close_quietly, open_document
from miros_cache_net.store.rights import Rights, attempted, rights_of
from miros_cache_net.store.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar

WRITE_BITS = 0o222
Notice = Callable[[Reason, str], None]


class Outcome(Enum):
    """The result of an attempt to enter."""

    ENTERED = "entered"
    LOCKED = "locked"  # another process or chart of ours is inside
    HELD = "held"  # a program that knows only the mode bit, or a person, holds the file


class ExclusiveAccess:
    """The right to change one document, entered and left; not shared between threads.

    `try_enter` never blocks; `await_grant` waits in the kernel on a helper thread; `enter` blocks the caller.
    Once inside, `mark` makes the access visible; `leave` undoes both.  All but `leave` and `close` raise `StoreError`.

    record       the lock file's record; our own once inside
    document_fd  the document, open for reading; -1 if there is none
    recovered    the record may be older than the document: the last holder died or failed, or the machine crashed
    stranded     the document was left un-writable and another user owns it: it has to be replaced
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock = SYSTEM_CLOCK,
        node_name: str | None = None,
        take_over_after_s: float = limits.TAKE_OVER_AFTER_S,
        notice: Notice = lambda _reason, _message: None,
    ) -> None:
        self.path = os.fspath(path)
        self.record = Sidecar("none", "")
        self.document_fd = -1
        # Closing the last descriptor waits until the inode is freed (0.15 ms), so do that after the lock is released.
        self._replaced_fd = -1
        self.recovered = False
        self.stranded = False
        self._was_writable = True
        self._clock = clock
        self._node_name = node_name
        self._take_over_after_s = take_over_after_s
        self._notice = notice
        self._lock = KernelLock(sidecar_path(self.path))
        self._held_first = self._held_last = -1.0

    def try_enter(self) -> Outcome:
        """Enter if possible without waiting."""
        with self._undone_on_error():
            return self._enter_locked() if self._lock.try_lock() else Outcome.LOCKED

    def enter(self) -> Outcome:
        """Wait in the kernel for the lock, then enter; `Outcome.HELD` if a foreign program holds the file."""
        with self._undone_on_error():
            self._lock.lock()
            return self._enter_locked()

    def await_grant(self, granted: Callable[[], None]) -> None:
        """Have a helper thread wait for the lock and call `granted`; then `try_enter` or `give_back`."""
        with self._undone_on_error():
            self._lock.await_grant(granted)

    def give_back(self) -> None:
        """Release a granted lock that no request needs any more."""
        with self._undone_on_error():
            if self._lock.granted and self._lock.try_lock():
                self._lock.unlock()

    def mark(self) -> None:
        """Inside: record the holder in the lock file, then make the document un-writable."""
        try:
            write_sidecar(self._lock.fd, self.record)
            if self.document_fd >= 0 and not attempted(os.fchmod, self.document_fd, self.record.mode & ~WRITE_BITS):
                # Only the owner may; between several users the kernel's lock excludes and the mode bit is best effort.
                self.stranded = not self._was_writable
        except OSError as error:
            raise store_error(error, self.path) from error

    def saw(self, stamp: Stamp) -> None:
        """Inside: every stamp that any process of this host issues from now on is later than this one."""
        self.record = self.record.saw(stamp)

    def leave(self, *, failed: bool = False) -> None:
        """Make the document writable again, clear the mark and unlock.  Never raises.

        failed  keep the mark, so that the next process inside cleans up
        """
        if not self._lock.held:
            return
        try:
            with contextlib.suppress(OSError):
                self._make_writable()
                write_sidecar(self._lock.fd, self.record if failed else self.record.cleared())
        finally:
            self._unlock()

    def document_rights(self, directory: int) -> Rights | None:
        """Inside: the access rights of the document, or of the file set aside; None if there was none."""
        fd = self.document_fd if self.document_fd >= 0 else self._replaced_fd
        return rights_of(fd, self.record.mode, directory) if fd >= 0 else None

    def stored(self, digest: str, newest: Stamp) -> None:
        """Inside: record the version of the document that is in place now, and its greatest stamp."""
        self.record = self.record.stored(digest, newest)

    def replaced_by(self, fd: int, mode: int | None = None) -> None:
        """The document has a new inode, open as `fd` (-1: it is gone); `leave` gives it `mode` (None: as before)."""
        close_quietly(self._replaced_fd)
        self._replaced_fd, self.document_fd = self.document_fd, fd
        if mode is not None:
            self.record = self.record._replace(mode=mode)
        self.stranded = False

    def let_go(self) -> None:
        """The document was set aside: there is none any more."""
        self._make_writable()
        self.replaced_by(-1)

    def close(self) -> None:
        """Leave, and close the descriptors.  Never raises."""
        self.leave()
        self._close_document()
        self._lock.close()

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            self.close()

    def _make_writable(self) -> None:
        if self.document_fd >= 0:
            attempted(os.fchmod, self.document_fd, self.record.mode)

    def _enter_locked(self) -> Outcome:
        self.record = read_sidecar(self._lock.fd, self._node_name)
        self.recovered = not self.record.is_certain
        self._close_document()
        mode = 0
        with contextlib.suppress(FileNotFoundError):
            self.document_fd, status = open_document(self.path)
            mode = stat.S_IMODE(status.st_mode)
        self._was_writable = self.document_fd < 0 or mode & WRITE_BITS != 0
        if not self._was_writable:
            if not self.record.holder and not self._take_over_due():
                self._unlock()
                return Outcome.HELD
            mode = self.record.mode or mode | stat.S_IWUSR
        self._held_first = -1.0
        self.record = self.record.marked(mode)
        return Outcome.ENTERED

    def _take_over_due(self) -> bool:
        now = self._clock.monotonic_s()
        if self._held_first < 0 or now - self._held_last > 2 * limits.BACKOFF_BOUNDS_S[-1]:
            self._held_first = now  # an attempt that long ago met another holder
        self._held_last = now
        if now - self._held_first < self._take_over_after_s:
            return False
        self._notice(
            Reason.TAKEN_OVER,
            f"{self.path}: un-writable for {self._take_over_after_s:g} s and its holder did not come back; taken over",
        )
        return True

    @contextlib.contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._unlock()
            raise store_error(error, self.path) from error
        except BaseException:
            self._unlock()
            raise

    def _unlock(self) -> None:
        self.stranded = False
        self._lock.unlock()
        self._close_document()

    def _close_document(self) -> None:
        old, self._replaced_fd = self._replaced_fd, -1
        fd, self.document_fd = self.document_fd, -1
        close_quietly(fd)
        close_quietly(old)
