"""One cache file: read without a lock, changed inside exclusive access.

The chart and the client compose the same parts: enter the access, `apply` changes, leave.  Nothing here
knows of events or threads.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document import Document, next_stamp
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.store.changes import Change
from miros_cache_net.store.lock import ExclusiveAccess, Notice, Outcome
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.replace import new_file_mode, replace_file, set_aside, sweep
from miros_cache_net.store.snapshot import Snapshot, SnapshotReader

DEFAULT_FILE = ".miros_rabbitmq_cache.json"
FILE_VARIABLE = "MIROS_CACHE_FILE"


def cache_path(file_path: str | os.PathLike[str] | None) -> Path:
    """The absolute path of a cache file; None: ``$MIROS_CACHE_FILE``, else the older library's default name."""
    # the file itself may be a link, which is refused later; its directory may be reached through one
    path = Path(file_path or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE).expanduser()
    return path.parent.resolve() / path.name


def backoff_s(failures: int, rng: random.Random | None = None) -> float:
    """How long to wait after `failures` earlier failures: random, below a bound that grows to 5 s."""
    bound_s = limits.BACKOFF_BOUNDS_S[min(failures, len(limits.BACKOFF_BOUNDS_S) - 1)]
    return (rng or random).uniform(limits.BACKOFF_LEAST_S, bound_s)


class FileStore:
    """The document at `path`.

    `read` is thread-safe and takes no lock.  The rest belongs to one thread and needs `access` entered:
    `load`, `apply`, then `leave`.  All raise `StoreError`.  `notice` hears what was repaired.
    """

    def __init__(
        self,
        path: Path,
        *,
        default: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        node_name: str | None = None,
        take_over_after_s: float = limits.TAKE_OVER_AFTER_S,
        notice: Notice = lambda _reason, _message: None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.access = ExclusiveAccess(
            path, clock=clock, node_name=node_name, take_over_after_s=take_over_after_s, notice=notice
        )
        self._notice = notice
        self._reader = SnapshotReader(path, default)

    def read(self) -> Snapshot:
        """The present state, without a lock; `DocumentError` where the file holds no document."""
        try:
            return self._reader.read()
        except OSError as error:
            raise store_error(error, self.path) from error

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Exclusive access for a caller that may block: waits for the lock, and backs off from strangers."""
        failures = 0
        while self.access.enter() is not Outcome.ENTERED:
            time.sleep(backoff_s(failures))
            failures += 1
        try:
            self.access.mark()
            yield
        finally:
            self.leave()

    def load(self) -> Snapshot:
        """Inside the access: the document, made, repaired or adopted first where that is needed."""
        try:
            return self._load()
        except OSError as error:
            raise store_error(error, self.path) from error

    def apply(self, changes: Sequence[Change], failed: Callable[[Change, Exception], None]) -> Snapshot:
        """Inside the access: all changes in order, as one durable replacement.

        A change that raises is left out and handed to `failed`; the others are made.  When this returns,
        what was asked is on the disk.
        """
        try:
            before = self._load()
            document = before.document
            for change in changes:
                try:
                    document = self._changed(document, change)
                except Exception as error:
                    failed(change, error)
            return before if document is before.document else self._store(document)
        except OSError as error:
            raise store_error(error, self.path) from error

    def leave(self) -> None:
        """End the access: the file is writable again, the lock free."""
        self.access.leave(*self._written)
        self._written = (None, None)

    def close(self) -> None:
        """Give up everything; a held access is left."""
        self.leave()
        self.access.close()
        self._reader.close()

    # --- inside the access ------------------------------------------------------------------------

    _written: tuple[Any, Any] = (None, None)

    def _changed(self, document: Document, change: Change) -> Document:
        now_ms = self.clock.wall_ms()
        last = max(document.last_stamp, document.floor.stamp, self.access.record.clock)
        changed = change.apply(document, next_stamp(last, now_ms, self.access.record.node), now_ms)
        if changed is not document:
            changed.to_text()  # too large is this change's fault, and must not fail the others
        return changed

    def _load(self) -> Snapshot:
        if self.access.recovered:
            sweep(self.path)
        try:
            snapshot = self._reader.read()
        except DocumentError as error:
            aside = set_aside(self.path)
            self.access.replaced_by(-1)
            message = f"{self.path}: {error}; set aside as {aside.name}, starting again from the default"
            self._notice(Reason.MALFORMED, message)
            return self._store(self._reader.default)
        if snapshot.status is None:
            return self._store(snapshot.document)
        if snapshot.foreign or self._was_exchanged(snapshot):
            return self._store(self._adopted(snapshot))
        return snapshot

    def _was_exchanged(self, snapshot: Snapshot) -> bool:
        """Somebody put another document of ours here (an old copy): its inside alone cannot tell."""
        digest = self.access.record.digest
        return bool(digest) and not self.access.recovered and snapshot.document.digest != digest

    def _adopted(self, snapshot: Snapshot) -> Document:
        """What a stranger wrote, as a local write of that moment."""
        document = snapshot.document
        moment_ms = document.floor.discovered_at_ms if snapshot.foreign else self.clock.wall_ms()
        stamp = next_stamp(self.access.record.clock, moment_ms, self.access.record.node)
        return document.written(document.contents, stamp, document.floor.discovered_at_ms)

    def _store(self, document: Document) -> Snapshot:
        fd = self.access.document_fd
        like = os.fstat(fd) if fd >= 0 else None
        new_fd = replace_file(self.path, document.to_text(), mtime_ms=document.floor.discovered_at_ms, like=like)
        self.access.replaced_by(new_fd)
        if like is None:
            self.access.mode_on_leave(new_file_mode())
        self._written = document.digest, max(document.last_stamp, document.floor.stamp)
        return Snapshot(document, False, os.fstat(new_fd))
