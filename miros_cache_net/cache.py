"""The cache file for programs that want only the contents: no events, no `miros`, no broker.."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings.which_file import cache_path
from miros_cache_net.store.changes import Begin, Beginning, Change, Modify, update_of, write_of
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.group_commit import commit
from miros_cache_net.store.plain_read import read_cache

__all__ = ["Cache", "read_cache"]

Contents = dict[str, Any]

#: What a bridge may take to say whether its host has the lease: it asks the broker.
LEASE_ANSWER_S = 5.0


class Cache:
    """One cache file, shared with every other program that uses it.

    Thread-safe.  Reads take no lock and hand out the same immutable document until it changes.  Changes wait
    for exclusive access and return once they are on the disk, where those that wait at one moment are put together;
    they return the document as they left it, or, having waited, perhaps with what others wrote right after.  They
    raise `PayloadError` for contents that JSON cannot hold and `StoreError` for what the operating system refuses.
    A forked child may go on using it.

    file_path   None: the setting `file`, else ``.miros_rabbitmq_cache.json`` here
    default     what a missing file reads as

    Raises `SettingsError` where no file is named and the settings cannot be read.
    """

    def __init__(
        self,
        file_path: str | os.PathLike[str] | None = None,
        *,
        default: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.path: Path = cache_path(file_path)
        self._clock = clock
        self._default = default
        self._renew()
        _alive.add(self)

    def _renew(self) -> None:
        # also called in a forked child: locks of the parent's threads are held for ever there
        self._store = FileStore(self.path, default=self._default, clock=self._clock, notice=_say)
        self._one_thread = threading.Lock()

    def read(self) -> CacheReadPayload:
        """The present document; a missing file reads as the default, expired.

        Raises `DocumentError` where the file holds no document; nothing is changed on the disk.
        """
        return self._store.read().payload(self.path, self._clock.wall_ms())

    def read_or_repair(self) -> CacheReadPayload:
        """As `read`, but a file that holds no document is set aside, and started again from the default, expired."""
        with contextlib.suppress(DocumentError):
            return self.read()
        with self._one_thread, self._store.entered():
            return self._store.load().payload(self.path, self._clock.wall_ms())

    def write(self, contents: Mapping[str, Any]) -> CacheReadPayload:
        """Replace the whole document, discovered now."""
        return self._change(write_of(contents))

    def update(self, changes: Mapping[str, Any], delete: Iterable[str] = ()) -> CacheReadPayload:
        """Set and delete single keys; other keys, also those written elsewhere meanwhile, stay.

        Does not make the document younger, unless nobody had written it yet.
        """
        return self._change(update_of(changes, delete))

    def modify(self, function: Callable[[Contents], Mapping[str, Any]]) -> CacheReadPayload:
        """Replace the document by ``function(contents)``, with nobody else writing in between on this host.

        `function` gets a dict of its own, and what it returned is returned.  What it raises reaches the caller, and
        nothing is changed.
        """
        return self._change(Modify(function))

    def wait(
        self, predicate: Callable[[CacheReadPayload], bool] | None = None, timeout_s: float | None = None
    ) -> CacheReadPayload | None:
        """Wait until `predicate` holds of the document; None: until it changes.  None after `timeout_s`.

        The kernel tells of changes; nothing is polled.
        """
        from miros_cache_net.store.watch import FileWatch

        changed = threading.Condition()
        changes = 0

        def note() -> None:
            nonlocal changes
            with changed:
                changes += 1
                changed.notify_all()

        before = self.read().version
        holds = predicate or (lambda payload: payload.version != before)
        watch = FileWatch(self.path, note)
        try:
            deadline = None if timeout_s is None else self._clock.monotonic_s() + timeout_s
            while True:
                seen = changes
                payload = self.read()
                if holds(payload):
                    return payload
                left = None if deadline is None else deadline - self._clock.monotonic_s()
                if left is not None and left <= 0:
                    return None
                with changed:
                    changed.wait_for(lambda seen=seen: changes != seen, left)  # type: ignore[misc]
        finally:
            watch.close()

    def get_or_discover(
        self, discovery: Callable[[], Mapping[str, Any]], timeout_s: float | None = None, *, force: bool = False
    ) -> CacheReadPayload:
        """The document if it is young; else the result of `discovery`, run once for all who want it at this moment.

        Once a fleet where a `CacheNode` runs on this host, once a host otherwise; a program that has to wait gets the
        result of the one that runs.  `discovery` returns the whole contents, with its ``time_out_in_minutes``; what it
        raises reaches its caller, and the next in line tries.  A result is dropped with a line in the log,
        "superseded", if the document was written as a whole since the discovery began, and what was written is
        returned.  `DiscoveryTimeout` after `timeout_s` of waiting; a discovery that runs is not interrupted.  A file
        that holds no document is set aside, and counts as expired.

        A host discovers at most once in the time-out, by its own clock; what has expired sooner, because some other
        host's clock is wrong, is returned as it is, `stale`.  `force`: discover now, whatever is there and whatever
        others do.
        """
        from miros_cache_net.host.asking import ask_bridges
        from miros_cache_net.host.messages import LEASE
        from miros_cache_net.single_flight import discover_once

        def ask_lease() -> bool:
            return False not in ask_bridges(self.path, LEASE, LEASE_ANSWER_S)

        return discover_once(self, discovery, ask_lease, clock=self._clock, timeout_s=timeout_s, force=force)

    def begin_discovery(self) -> Beginning:
        """For a discovery that begins now, and hands its result to `write_discovered`."""
        taken: list[Beginning | None] = []
        self._change(Begin(taken.append))
        (began,) = taken
        assert began is not None  # it raises where there is no access
        return began

    def write_discovered(self, contents: Mapping[str, Any], began: Beginning) -> CacheReadPayload:
        """As `write`, but discovered at `began`; raises `Superseded` if the document was written as a whole since."""
        return self._change(write_of(contents, began))

    def close(self) -> None:
        """Give up descriptors; the file stays as it is."""
        with self._one_thread:
            self._store.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()

    def _change(self, change: Change) -> CacheReadPayload:
        with self._one_thread:
            snapshot = commit(self._store, change)
        return snapshot.payload(self.path, self._clock.wall_ms())


def _say(_reason: Reason, message: str) -> None:
    # imported here: who only reads pays nothing for it
    import logging

    logging.getLogger(__name__).warning("%s", message)


_alive: weakref.WeakSet[Cache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_alive):
        cache._renew()


os.register_at_fork(after_in_child=_after_fork)
