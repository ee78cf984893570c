"""Group commit: all who wait for the lock at one moment cost one replacement of the document.

A durable replacement costs two syncs of the disk, whatever it holds, so what waits is stored together (group commit:
DeWitt et al., "Implementation Techniques for Main Memory Database Systems", SIGMOD 1984).

The first who waits makes a *batch*, a file beside the document, holds that file's lock and waits for the document's:
it leads.  Who comes later appends its change to the batch and waits for the batch's lock instead.  Once inside, the
leader unlinks the batch, so that later comers begin another, stores its own change and those of the batch behind it,
marks in the unlinked file, which all still hold open, what is on the disk, and closes it, which wakes all at once.
Whoever does not find its mark (the leader was killed, or read the batch a moment too early) begins anew; who has
waited too long withdraws its change, waits for its own turn, and looks once more: nothing depends on a batch, it may be
lost at any moment.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.errors import CacheNetError
from miros_cache_net.store.changes import Change, Update, Write, update_of, write_of
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.lock import Outcome
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.paths import beside
from miros_cache_net.store.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NamedTuple

    from miros_cache_net.store.file_store import FileStore
else:
    from miros_cache_net.named_tuple import NamedTuple

#: A batch that is being stored at the moment a change is handed over misses it, and a dead leader's is for nobody:
#: after so many of them a writer waits for its own turn, so that nobody starves.
_BATCHES_TRIED: Final = 3
_WAITING: Final = b"-"
_STORED: Final = b"+"
_WITHDRAWN: Final = b"x"
_WHOLE: Final = _WAITING + b'{"write":'


class Taken(NamedTuple):
    """A change of another process; `places` are those to mark once it is stored: its own, and of what it overwrites."""

    change: Change
    places: list[int]


class Batch:
    """One process's part in the batch of the document at `path`: it leads, or waits for the leader, or neither.

    Only `close` has to be called, and nothing here raises: who finds no place in a batch waits for its own turn.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = KernelLock(beside(path, f".{os.path.basename(path)}.batch"))
        self._place = -1

    def join(self, change: Change) -> bool:
        """Hand `change` to the leader, who is to be waited for; False: this process leads, or waits for its own turn.

        Functions, discoveries, large changes, and those of a document that fewer may read than the batch, take no part.
        """
        line = _line_of(change)
        if line is not None:
            with contextlib.suppress(OSError, CacheNetError):
                while not self._leads():
                    status = os.fstat(self._lock.fd)
                    if status.st_nlink:
                        fits = status.st_size + len(line) <= limits.BATCH_BYTES and self._is_private_enough(status)
                        self._place = self._lock.append(line) if fits else -1
                        return self._place >= 0
                    self._lock.close()  # it is being stored already; the next one
        return False

    def wait(self) -> bool:
        """Sleep until the leader is done; True if it is, and `has_stored` is true for ever then, or false.

        Without a mark, or if the wait is broken off, the change is withdrawn: nobody may begin to store it after what
        its owner does next.
        """
        over = False
        try:
            with contextlib.suppress(OSError, RuntimeError):
                over = self._lock.await_free(limits.BATCH_WAIT_S)
        finally:
            if not (over and self.has_stored):
                with contextlib.suppress(OSError):
                    # not the place of the mark, which may be set at this very moment
                    os.pwrite(self._lock.fd, _WITHDRAWN, self._place + 1)
        return over

    @property
    def has_stored(self) -> bool:
        """The leader has marked what was handed to it; asked inside, it is the truth even if it was not waited for."""
        with contextlib.suppress(OSError):
            return self._place >= 0 and os.pread(self._lock.fd, 1, self._place) == _STORED
        return False

    def take(self) -> list[Taken]:
        """For the leader, inside: what has come together, oldest first, and no more of it from now on."""
        if self._lock.held:
            with contextlib.suppress(OSError):
                os.unlink(self._lock.path)
                return list(_changes_in(os.pread(self._lock.fd, limits.BATCH_BYTES, 0)))
        return []

    def stored(self, taken: list[Taken]) -> None:
        """For the leader, when these are on the disk: let their owners know."""
        with contextlib.suppress(OSError):
            for each in taken:
                for place in each.places:
                    os.pwrite(self._lock.fd, _STORED, place)

    def clear(self) -> None:
        """For who did not have to wait: remove a batch that a dead leader left."""
        with contextlib.suppress(OSError, CacheNetError):
            if os.path.lexists(self._lock.path) and self._lock.try_lock():
                os.unlink(self._lock.path)
                self._lock.close()

    def close(self) -> None:
        """Leave the batch; if this process leads, all who wait for it wake."""
        self._place = -1
        self._lock.close()

    def _is_private_enough(self, batch: os.stat_result) -> bool:
        """Nobody can read the batch who may not read the document; of one that is still to be made, nobody else."""
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
            os.unlink(self._lock.path)  # its leader is dead
            self._lock.close()
        return False


def commit(store: FileStore, change: Change) -> Snapshot:
    """One durable change, for a caller that may block, with those of other processes that wait at this moment.

    When this returns it is on the disk.  Raises what the change raises, and `StoreError`; then nothing is changed.
    What is returned is the document as this change left it; if it waited, perhaps with later ones in it.
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
    """Whoever leads a batch has stored it; if not, this process is inside (it may be in any case)."""
    if store.access.try_enter() is Outcome.ENTERED:
        batch.clear()
        return False
    for _ in range(_BATCHES_TRIED):
        if not batch.join(change) or not batch.wait():
            break
        if batch.has_stored:
            return True
        batch.close()
        if store.access.try_enter() is Outcome.ENTERED:
            return False
    store.enter()
    # a leader that was at work still may have read the change before it was withdrawn
    return batch.has_stored


def _stored_together(store: FileStore, change: Change, batch: Batch) -> Snapshot:
    before = store.load()
    document = store.changed(before.document, change)
    if document is before.document:
        return before
    together, accepted = document, []
    for each in batch.take():
        with contextlib.suppress(CacheNetError):  # its owner will make it himself, and hear why not
            together = store.changed(together, each.change)
            accepted.append(each)
    snapshot = store.replace(together)
    batch.stored(accepted)
    return snapshot if together is document else Snapshot(document, False, snapshot.status)


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
    """From the last whole write on; what stands before it is overwritten in the same moment."""
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
        return write_of(body["write"]) if line.startswith(_WHOLE) else update_of(body["update"], body["delete"])
    return None  # torn, or no line of ours; its owner makes its change itself
