"""The cache file for programs that need only the contents: no events, no `miros`, no broker."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings.which_file import cache_path
from miros_cache_net.store.changes import Begin, Beginning, Change, Modify, update_of, write_of
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.group_commit import commit
from miros_cache_net.store.inside import inside, refuse_inside
from miros_cache_net.store.plain_read import read_cache

if TYPE_CHECKING:
    from miros_cache_net.store.change_iterator import Changes

__all__ = ["Cache", "read_cache"]

Contents = dict[str, Any]

#: How long a bridge may take to say whether its host has the lease: it may have to connect first, then to join alone.
LEASE_ANSWER_S = 6.0


class Cache:
    """One cache file, shared with every other program that uses it.

    Thread-safe.  Reads take no lock and return the same immutable document until it changes.  Changes wait for
    exclusive access and return once they are on the disk; changes that wait at the same time are stored together.
    A change returns the document as it left it; after a wait, the document may contain later changes by others too.
    Changes raise `PayloadError` for contents that JSON cannot represent and `StoreError` if the operating system
    refuses.  A forked child may continue to use the object.

    file_path   None: the setting `file`, else ``.miros_rabbitmq_cache.json`` in the working directory
    default     the contents that a missing file reads as

    Raises `SettingsError` if no file is named and the settings cannot be read.
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
        # Also called in a forked child: there, locks held by the parent's threads are never released.
        self._iterators: weakref.WeakSet[Changes] = weakref.WeakSet()
        self._store = FileStore(self.path, default=self._default, clock=self._clock, notice=_say)
        self._one_thread = threading.Lock()

    def read(self) -> CacheReadPayload:
        """The current document; a missing file reads as the default, expired.

        Raises `DocumentError` if the file contains no document; nothing changes on the disk.
        """
        return self._store.read().payload(self.path, self._clock.wall_ms())

    def read_or_repair(self) -> CacheReadPayload:
        """As `read`, but sets aside a file that contains no document and starts again from the default, expired."""
        with contextlib.suppress(DocumentError):
            return self.read()
        with self._alone(), self._store.entered():
            return self._store.load().payload(self.path, self._clock.wall_ms())

    def write(self, contents: Mapping[str, Any]) -> CacheReadPayload:
        """Replace the whole document, discovered now."""
        return self._change(write_of(contents))

    def update(self, changes: Mapping[str, Any], delete: Iterable[str] = ()) -> CacheReadPayload:
        """Set and delete single keys; other keys stay, including those written elsewhere in the meantime.

        Does not make the document younger, unless it had never been written.
        """
        return self._change(update_of(changes, delete))

    def modify(self, function: Callable[[Contents], Mapping[str, Any]]) -> CacheReadPayload:
        """Replace the document with ``function(contents)``; nothing else on this host writes in between.

        `function` receives a dict of its own and returns the new contents.  Its exceptions reach the caller, and
        nothing changes then.  It may `read` the document; if it changes the document in any other way than by its
        result, or waits for a change, it gets `ModifyRecursion`.
        """

        def modified(contents: Contents) -> Mapping[str, Any]:
            with inside(self.path, self):
                return function(contents)

        return self._change(Modify(modified))

    def wait(
        self, predicate: Callable[[CacheReadPayload], bool] | None = None, timeout_s: float | None = None
    ) -> CacheReadPayload | None:
        """Wait until `predicate(document)` is true, or without a predicate until the document changes.

        Returns None after `timeout_s`.  The kernel reports changes; there is no polling.
        """
        with self.changes(timeout_s) as changes:
            if predicate is not None and predicate(payload := self.read()):
                return payload
            for payload in changes:
                if predicate is None or predicate(payload):
                    return payload
        return None

    def changes(self, timeout_s: float | None = None) -> Changes:
        """A blocking iterator over each new state of the document from this call on, whichever program wrote it.

        ``for payload in cache.changes(): ...``.  The kernel reports changes; there is no polling.  If several changes
        occur between two steps, only the last is returned.  The iterator ends after `timeout_s` seconds, or when any
        thread closes it or the cache.  A forked child must make its own.
        """
        from miros_cache_net.store.change_iterator import Changes

        refuse_inside(self.path)  # it would wait for a change that the caller prevents
        changes = Changes(self.path, self.read, self._clock, timeout_s)
        self._iterators.add(changes)
        return changes

    def get_or_discover(
        self,
        discovery: Callable[[], Mapping[str, Any]],
        timeout_s: float | None = None,
        *,
        force: bool = False,
        keeps: Callable[[str], bool] | None = None,
    ) -> CacheReadPayload:
        """The document if it is young; else the result of `discovery`, run once for all programs that want it now.

        It runs once per fleet if a `CacheNode` on this host has a link, else once per host; a program that has to wait
        gets the result of the discovery that is running.  `discovery` returns the whole contents, including
        ``time_out_in_minutes``; its exceptions reach its caller, and the next program in line tries.  If a whole write
        came after the discovery began, the result is dropped with a log line ("superseded") and the written document
        is returned.  Raises `DiscoveryTimeout` after `timeout_s` of waiting; a running discovery is not interrupted.
        A file that contains no document is set aside and counts as expired.

        A host discovers at most once per time-out, by its own clock; a document that expired sooner, because another
        host's clock is wrong, is returned as it is, `stale`.  `force`: discover now, whatever the file contains and
        whatever others do.  `keeps`: given the name of an existing key, returns whether the key stays if the result
        lacks it; None: none stays.
        """
        from miros_cache_net.one_discovery import discover_once

        return discover_once(
            self, discovery, self.ask_turn, clock=self._clock, timeout_s=timeout_s, force=force, keeps=keeps
        )

    def ask_turn(self) -> bool:
        """Whether this host has the fleet's lease to discover, or no fleet exists; blocks while it asks the broker."""
        from miros_cache_net.host.stranger import fleets_of

        return all(fleet.may_discover(LEASE_ANSWER_S) for fleet in fleets_of(self.path))

    def begin_discovery(self) -> Beginning:
        """Begin a discovery now; pass the returned beginning and its result to `write_discovered`."""
        taken: list[Beginning | None] = []
        self._change(Begin(taken.append))
        (began,) = taken
        assert began is not None  # without exclusive access _change raises
        return began

    def write_discovered(
        self, contents: Mapping[str, Any], began: Beginning, keeps: Callable[[str], bool] | None = None
    ) -> CacheReadPayload:
        """As `write`, but discovered at `began`; raises `Superseded` if a whole write came after `began`.

        `keeps`: as for `get_or_discover`.
        """
        return self._change(write_of(contents, began, keeps))

    def close(self) -> None:
        """Close the descriptors, as garbage collection does, and end `changes`; the object stays usable."""
        refuse_inside(self.path, self)
        for changes in list(self._iterators):
            changes.close()
        with self._one_thread:
            self._store.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()

    def _change(self, change: Change) -> CacheReadPayload:
        with self._alone():
            snapshot = commit(self._store, change)
        return snapshot.payload(self.path, self._clock.wall_ms())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        refuse_inside(self.path)
        with self._one_thread:
            yield


def _say(_reason: Reason, message: str) -> None:
    # Imported here: a program that only reads does not pay for it.
    from miros_cache_net.logs import module_log

    module_log(__name__).warning("%s", message)


_alive: weakref.WeakSet[Cache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_alive):
        for changes in list(cache._iterators):
            changes.forked()
        cache._renew()


os.register_at_fork(after_in_child=_after_fork)
