"""Group commit: all processes that wait for the lock at the same time share one replacement of the document.

A durable replacement costs two disk syncs whatever its size, so waiting changes are stored together (group commit:
DeWitt et al., "Implementation Techniques for Main Memory Database Systems", SIGMOD 1984), by the process that gets
inside first (flat combining: Hendler et al., SPAA 2010).

A process that has to wait appends its change to the *batch*, a file beside the document.  The first one leads: it holds
the batch's lock and waits for the document's lock.  The others sleep on the batch's lock.  The process that gets inside
unlinks the batch, so that later ones begin another, stores its own change and the whole batch, and marks the stored
changes in the unlinked file, which all still have open.  The leader closes the batch, which wakes all at once.  A
process that then finds no mark, or has slept too long, waits for its own turn and checks again inside, where no other
process can set the mark: if it is there now, the process leaves at once.  So a stopped or killed leader costs one
time-out, and the processes that give up on it do not each cost a replacement.  Nothing depends on a batch; it may be
lost at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import FrozenDict
from miros_cache_net.document.value import Document
from miros_cache_net.errors import CacheNetError
from miros_cache_net.store.changes import Change, Update, Write, update_of, write_of
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.lock import Outcome
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.paths import beside
from miros_cache_net.store.regular import SAFELY, close_quietly
from miros_cache_net.store.snapshot import Snapshot

if TYPE_CHECKING:
    from miros_cache_net.store.file_store import FileStore

#: A change that is added at the moment a batch is taken misses it and joins the next one; this bounds the attempts.
_BATCHES_TRIED: Final = 5
_WAITING: Final = b"-"
_STORED: Final = b"+"
_WITHDRAWN: Final = b"x"
_WHOLE: Final = _WAITING + b'{"write":'


class Taken(NamedTuple):
    """Another process's change; `places`: offsets to mark once it is stored, its own and of what it overwrites."""

    change: Change
    places: list[int]


class Batch:
    """One process's part in the batch of the document at `path`: it leads, waits for the leader, or neither.

    Only `close` must be called, and no method raises: a process that finds no place in a batch waits for its own turn.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = KernelLock(beside(path, f".{os.path.basename(path)}.batch"))
        self._place = -1
        self._taken_fd = -1

    @property
    def exists(self) -> bool:
        """Other processes wait, or died while waiting."""
        return os.path.lexists(self._lock.path)

    def join(self, change: Change) -> bool:
        """Add `change` to the batch; True if another process leads it, so that the caller has to wait for it.

        Functions, discoveries and large changes take no part, nor do changes to a document that fewer users may read
        than the batch.
        """
        line = _line_of(change)
        if line is not None:
            with contextlib.suppress(OSError, CacheNetError):
                while True:
                    leads = self._leads()
                    status = os.fstat(self._lock.fd)
                    if status.st_nlink:
                        fits = status.st_size + len(line) <= limits.BATCH_BYTES and self._is_private_enough(status)
                        self._place = self._lock.append(line) if fits else -1
                        return self._place >= 0 and not leads
                    self._lock.close()  # this batch is being stored already; join the next one
        return False

    def wait(self) -> bool:
        """Sleep until the leader is done or dead, at most `limits.BATCH_WAIT_S`; False if it is neither."""
        with contextlib.suppress(OSError, RuntimeError):
            return self._lock.await_free(limits.BATCH_WAIT_S)
        return False

    @property
    def is_taken(self) -> bool:
        """The batch is unlinked: no other process can find it any more."""
        with contextlib.suppress(OSError):
            return os.fstat(self._lock.fd).st_nlink == 0
        return False

    @property
    def has_stored(self) -> bool:
        """The change is on the disk.  Inside the access False is final too: no other process will store it any more."""
        with contextlib.suppress(OSError):
            return self._place >= 0 and os.pread(self._lock.fd, 1, self._place) == _STORED
        return False

    def take(self) -> list[Taken]:
        """Inside: the others' changes, oldest first; processes that come from now on begin another batch."""
        self._withdraw()
        with contextlib.suppress(OSError):
            self._taken_fd = os.open(self._lock.path, os.O_RDWR | SAFELY)
            if stat.S_ISREG(os.fstat(self._taken_fd).st_mode):
                os.unlink(self._lock.path)
                if self._is_waited_for():
                    return list(_changes_in(os.pread(self._taken_fd, limits.BATCH_BYTES, 0)))
        return []

    def stored(self, taken: Sequence[Taken]) -> None:
        """Inside, once these changes are on the disk: mark them for their owners."""
        with contextlib.suppress(OSError):
            for each in taken:
                for place in each.places:
                    os.pwrite(self._taken_fd, _STORED, place)

    def close(self) -> None:
        """Leave the batch; a change that is not stored yet is withdrawn.  If this process leads, the others wake."""
        self._withdraw()
        fd, self._taken_fd = self._taken_fd, -1
        close_quietly(fd)
        self._lock.close()

    def _withdraw(self) -> None:
        """Withdraw the change: no process may store it after the owner's next action."""
        if self._place >= 0 and not self.has_stored:
            with contextlib.suppress(OSError):
                # Not at the offset of the mark, which another process may set at this very moment.
                os.pwrite(self._lock.fd, _WITHDRAWN, self._place + 1)
        self._place = -1

    def _is_waited_for(self) -> bool:
        """Its leader or a process that waits for it is alive: changes left only by dead processes are not stored."""
        taken = os.fstat(self._taken_fd)
        if self._lock.held and os.path.samestat(taken, os.fstat(self._lock.fd)):
            return True
        # For an old batch a held lock proves nothing: a process that is about to remove a dead batch holds it for a
        # moment too, and since those processes died, newer changes may have been acknowledged.  Live processes have
        # given up on a batch of this age, so they lose only the shared commit.  A changed clock makes it old as well.
        if abs(time.time() - taken.st_mtime) > 2 * limits.BATCH_WAIT_S:
            return False
        try:
            fcntl.flock(self._taken_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def _is_private_enough(self, batch: os.stat_result) -> bool:
        """Only users who may read the document can read the batch; if there is no document yet, only the owner can."""
        try:
            document = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return not batch.st_mode & stat.S_IRGRP
        if document.st_mode & stat.S_IROTH:
            return True
        if document.st_mode & stat.S_IRGRP:
            return document.st_gid == batch.st_gid
        return document.st_uid == batch.st_uid and not batch.st_mode & stat.S_IRGRP

    def _leads(self) -> bool:
        while self._lock.try_lock():
            if os.fstat(self._lock.fd).st_size == 0:
                return True
            os.unlink(self._lock.path)  # a batch with contents whose lock is free: its leader is dead
            self._lock.close()
        return False


def commit(store: FileStore, change: Change) -> Snapshot:
    """Make one durable change, together with those of other processes that wait now; for a caller that may block.

    When this returns, the change is on the disk.  Raises what the change raises, and `StoreError`; then nothing
    changes.  Returns the document as this change left it; after a wait it may contain later changes too.
    """
    with contextlib.closing(Batch(store.path)) as batch:
        try:
            if _stored_by_other(store, change, batch):
                return store.read()
            store.access.mark()
            return _stored_together(store, change, batch)
        except OSError as error:
            raise store_error(error, store.path) from error
        finally:
            store.leave()


def _stored_by_other(store: FileStore, change: Change, batch: Batch) -> bool:
    """True if another process has stored the change; otherwise this process is inside (it may be in either case)."""
    # A process that arrives just before the next in line wakes joins the batch, instead of storing its change alone.
    if not batch.exists and store.access.try_enter() is Outcome.ENTERED:
        return False
    for _ in range(_BATCHES_TRIED):
        if not batch.join(change):
            break
        over = batch.wait()
        if batch.has_stored:
            return True
        if not (over and batch.is_taken):
            break
        batch.close()
    store.enter()
    return batch.has_stored


def _stored_together(store: FileStore, change: Change, batch: Batch) -> Snapshot:
    before = store.load()
    document = store.changed(before.document, change)
    if document is before.document:
        return before
    together, made = _with_all(store, document, batch.take())
    snapshot = store.replace(together)
    batch.stored(made)
    return snapshot if together is document else Snapshot(document, False, snapshot.status)


def _with_all(store: FileStore, document: Document, taken: Sequence[Taken]) -> tuple[Document, list[Taken]]:
    """`document` with all changes that can be made, and those changes: all at once, or else by bisection."""
    if not taken:
        return document, []
    change = _folded(taken)
    if change is not None:
        with contextlib.suppress(CacheNetError):
            return store.changed(document, change), list(taken)
        if len(taken) == 1:
            return document, []  # its owner will try it by itself and get the error
    at = len(taken) // 2
    document, first = _with_all(store, document, taken[:at])
    document, last = _with_all(store, document, taken[at:])
    return document, first + last


def _folded(taken: Sequence[Taken]) -> Change | None:
    """One change with the effect of all of them; None if there is none.

    So a document's text is made once, not once for each of a thousand changes.
    """
    if len(taken) == 1:
        return taken[0].change
    together: dict[str, object] = {}
    delete: set[str] = set()
    for each in taken:
        update = each.change
        if not isinstance(update, Update) or not update.delete.isdisjoint(update.changes):
            return None
        delete.difference_update(update.changes)
        delete.update(update.delete)
        together.update(update.changes)
    return Update(FrozenDict((key, value) for key, value in together.items() if key not in delete), frozenset(delete))


def _line_of(change: Change) -> bytes | None:
    if isinstance(change, Write) and change.began is None:
        line = b"%s%s}\n" % (_WHOLE, change.text)
    elif isinstance(change, Update):
        body = {"update": change.changes, "delete": sorted(change.delete)}
        line = b"%s%s\n" % (_WAITING, strict_json.dumps(body))
    else:
        return None
    return line if len(line) <= limits.BATCHED_CHANGE_BYTES else None


def _changes_in(text: bytes) -> Iterator[Taken]:
    """The changes from the last whole write on; it overwrites the earlier ones at once."""
    begin = text.rfind(b"\n" + _WHOLE) + 1
    at, places = 0, []
    for line in text.split(b"\n")[:-1]:
        places.append(at)
        if at >= begin:
            change = _change_of(line)
            if change is not None:
                yield Taken(change, places)
            places = []
        at += len(line) + 1


def _change_of(line: bytes) -> Change | None:
    with contextlib.suppress(CacheNetError, ValueError, KeyError, TypeError):
        body = strict_json.loads(line.removeprefix(_WAITING).decode())
        return write_of(body["write"]) if line.startswith(_WHOLE) else _update_in(body)
    return None  # torn, or not one of our lines; the owner makes its change by itself


def _update_in(body: dict[str, object]) -> Change:
    changes, delete = body["update"], body["delete"]
    if type(changes) is not FrozenDict or not isinstance(delete, list):
        raise TypeError("not one of our updates")
    return update_of(changes, delete)
