"""One cache file: read without a lock, changed inside exclusive access.

The chart and the client compose the same parts: enter the access, `apply` changes, leave.  This module
knows nothing of events or threads.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document import strict_json
from miros_cache_net.document.value import Document, Stamp, next_stamp, own_time_ms
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.observe.families import FILE_REPAIRS, FILE_WRITES
from miros_cache_net.observe.registry import PROCESS, Registry
from miros_cache_net.store.changes import Begin, Change, Merge, Write
from miros_cache_net.store.lock import ExclusiveAccess, Notice, Outcome
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.paths import opened_directory
from miros_cache_net.store.plain_read import no_document
from miros_cache_net.store.reader import SnapshotReader
from miros_cache_net.store.replace import put_in_place, set_aside, sweep, sync_directory
from miros_cache_net.store.rights import new_document_rights
from miros_cache_net.store.sidecar import NEVER
from miros_cache_net.store.snapshot import Snapshot

if TYPE_CHECKING:
    from random import Random


def backoff_s(failures: int, rng: Random | None = None) -> float:
    """The back-off in seconds after `failures` earlier failures: random, below a bound that grows to 5 s."""
    bound_s = limits.BACKOFF_BOUNDS_S[min(failures, len(limits.BACKOFF_BOUNDS_S) - 1)]
    if rng is None:
        import random  # it loads OpenSSL; a program that never waits does not pay for it

        rng = random.Random()
    return rng.uniform(limits.BACKOFF_LEAST_S, bound_s)


def _counting(registry: Registry, notice: Notice) -> Notice:
    repairs = registry.labelled(FILE_REPAIRS)

    def note_repair(reason: Reason, message: str) -> None:
        repairs.add(reason.value)
        notice(reason, message)

    return note_repair


class FileStore:
    """The document at `path`.

    `read` is thread-safe and takes no lock.  The rest belongs to one thread and needs `access` entered:
    `load`, `apply`, then `leave`.  All raise `StoreError`.  `notice` is called for each repair.
    `registry` counts writes and repairs.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        default: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        node_name: str | None = None,
        take_over_after_s: float = limits.TAKE_OVER_AFTER_S,
        notice: Notice = lambda _reason, _message: None,
        registry: Registry = PROCESS,
    ) -> None:
        self._writes = registry.counter(FILE_WRITES)
        # not a method: a store that refers to itself gives its lock back only when garbage is collected
        self._note_repair = _counting(registry, notice)
        self.path = os.fspath(path)
        self.clock = clock
        self.access = ExclusiveAccess(
            path, clock=clock, node_name=node_name, take_over_after_s=take_over_after_s, notice=self._note_repair
        )
        self._failed = self._loaded = False
        self._discovery = NEVER
        self._text: tuple[Document | None, bytes] = (None, b"")
        self._reader = SnapshotReader(path, default)

    def read(self) -> Snapshot:
        """The current state, read without a lock; raises `DocumentError` if the file contains no document."""
        try:
            return self._reader.read()
        except DocumentError as error:
            raise no_document(error, self.path) from None
        except OSError as error:
            raise store_error(error, self.path) from error

    def enter(self) -> None:
        """Get exclusive access, for a caller that may block: wait for the lock, and back off from foreign holders."""
        failures = 0
        while self.access.enter() is not Outcome.ENTERED:
            time.sleep(backoff_s(failures))
            failures += 1

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """A context manager for marked exclusive access; blocks as `enter` does."""
        self.enter()
        try:
            self.access.mark()
            yield
        finally:
            self.leave()

    def load(self) -> Snapshot:
        """Inside the access: the document; it is made, repaired or adopted first if necessary."""
        try:
            return self._load()
        except OSError as error:
            raise store_error(error, self.path) from error

    def apply(self, changes: Sequence[Change], failed: Callable[[Change, Exception], None]) -> Snapshot:
        """Inside the access: make all changes in order, as one durable replacement.

        A change that raises is skipped and passed to `failed`; the others are made.  When this returns, the
        changes are on the disk.
        """
        try:
            before = self._load()
            document = before.document
            for change in changes:
                try:
                    document = self.changed(document, change)
                except Exception as error:
                    failed(change, error)
            return before if document is before.document else self.replace(document)
        except OSError as error:
            raise store_error(error, self.path) from error

    def changed(self, document: Document, change: Change) -> Document:
        """Inside the access: `document` with one change made, which may raise."""
        now_ms = own_time_ms(self.clock.wall_ms())
        if isinstance(change, Merge):
            # Also for a refused document: otherwise a whole write by this host could not supersede it.
            self.access.saw(change.document.last_stamp)
        last = max(document.last_stamp, self.access.record.clock)
        stamp = next_stamp(last, now_ms, self.access.record.node)
        changed = change.apply(document, stamp, now_ms)
        if changed is not document:
            # Check the size here: a document that is too large must fail this change, not the others.
            self._text = changed, changed.to_text()
        self._note_discovery(change, stamp, now_ms)
        return changed

    def replace(self, document: Document) -> Snapshot:
        """Inside the access: replace the file with `document`, which is on the disk on return.  Raises `OSError`."""
        access = self.access
        made_for, text = self._text
        self._text = None, b""
        if made_for is not document:
            text = document.to_text()
        # Never in the future: programs that judge the age by mtime would misread it.
        mtime_ms = max(0, min(document.floor.discovered_at_ms, self.clock.wall_ms()))
        # Until all is done: the mark then stays after a failure, so that the next process inside sweeps.
        self._failed = True
        with opened_directory(self.path) as directory:
            rights = access.document_rights(directory) or new_document_rights(directory)
            fd, mode = put_in_place(directory, os.path.basename(self.path), text, mtime_ms=mtime_ms, rights=rights)
            access.replaced_by(fd, mode)
            access.stored(document.version, document.last_stamp)
            sync_directory(directory)
        self._failed = False
        self._writes.add()
        snapshot = Snapshot(document, False, os.fstat(fd))
        self._reader.adopt(snapshot, fd)
        return snapshot

    def leave(self) -> None:
        """End the access: the file is writable again, the lock free.  Never raises."""
        # who was killed here before may have left something, which only `load` clears away
        failed = self._failed or (self.access.recovered and not self._loaded)
        self._failed = self._loaded = False
        discovery, self._discovery = self._discovery, NEVER
        if discovery != NEVER and not failed:
            self.access.record = self.access.record._replace(discovery=discovery)
        self.access.leave(failed=failed)

    def close(self) -> None:
        """Leave the access if it is held, and close all descriptors."""
        self.leave()
        self.access.close()
        self._reader.close()

    # --- inside the access ------------------------------------------------------------------------

    def _load(self) -> Snapshot:
        if self.access.recovered or not self.access.record.digest:
            sweep(self.path)
        self._loaded = True
        try:
            snapshot = self._reader.read()
            if self._is_known(snapshot):
                return snapshot
            document = snapshot.document
            if snapshot.status is not None:
                # A digest does not prove that we wrote it, and other hosts refuse what the strict parser refuses.
                strict_json.loads(document.contents_text)
        except DocumentError as error:
            return self._started_again(error)
        if snapshot.status is None or self.access.stranded:
            return self.replace(document)
        if snapshot.foreign or self._was_restored(document):
            return self.replace(self._adopted(snapshot))
        # Record it, so that it is not compared with an uncertain record again.
        self.access.stored(document.version, document.last_stamp)
        return snapshot

    def _is_known(self, snapshot: Snapshot) -> bool:
        """The lock file says that we wrote exactly this version."""
        return (
            snapshot.face.version == self.access.record.digest
            and snapshot.status is not None
            and not self.access.stranded
        )

    def _note_discovery(self, change: Change, stamp: Stamp, now_ms: int) -> None:
        """Note for the lock file: a beginning's stamp, or when the discovery whose result is stored began and ended."""
        if isinstance(change, Begin):
            self.access.saw(stamp)
        elif isinstance(change, Write) and change.began is not None:
            self._discovery = change.began.now_ms, now_ms

    def _started_again(self, error: DocumentError) -> Snapshot:
        aside, gone = set_aside(self.path)
        self.access.let_go()
        message = f"{self.path}: {error}; set aside as {os.path.basename(aside)}, starting again from the default"
        if gone:
            names = ", ".join(map(os.path.basename, gone))
            message += f"; removed files set aside earlier ({names}); find the program that keeps writing broken files"
        self._note_repair(Reason.MALFORMED, message)
        return self.replace(self._reader.default)

    def _was_restored(self, document: Document) -> bool:
        """Somebody restored an old copy, which only the record can show.

        The record has to be certain; an older record may belong to a newer document.
        """
        record = self.access.record
        if self.access.recovered or record.digest in ("", document.version):
            return False
        return document.last_stamp <= record.newest

    def _adopted(self, snapshot: Snapshot) -> Document:
        """The contents that a foreign program wrote, as a local write of that moment."""
        document, now_ms = snapshot.document, own_time_ms(self.clock.wall_ms())
        discovered_at_ms = min(document.floor.discovered_at_ms, now_ms)
        moment_ms = discovered_at_ms if snapshot.foreign else now_ms
        stamp = next_stamp(self.access.record.clock, moment_ms, self.access.record.node)
        return document.written(document.contents, stamp, discovered_at_ms)
