"""`CacheFileChart`: the statechart that guards one cache file.  It decides when; `store` does what."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from miros.event import Event, return_status, signals

from miros_cache_net import limits
from miros_cache_net.charts import registry
from miros_cache_net.charts.chart import Chart
from miros_cache_net.charts.requests import Request, WaitingLine, addressee, parse_write
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document import Document
from miros_cache_net.errors import CacheNetError, PayloadError, Reason, StoreError
from miros_cache_net.events import CACHE, CACHE_DESTROY, CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.store.changes import Change, Destroy, as_contents
from miros_cache_net.store.file_store import FileStore, backoff_s, cache_path
from miros_cache_net.store.lock import Outcome
from miros_cache_net.store.snapshot import Snapshot
from miros_cache_net.store.watch import FileWatch

HANDLED: Final = int(return_status.HANDLED)


class CacheFileChart(Chart):
    """Guards the cache file at `file_path`; starts itself.

    Subscribes to ``CACHE_FILE_READ``, ``CACHE_FILE_WRITE`` and ``CACHE_DESTROY``; posted to it directly they
    work the same.  Publishes ``CACHE`` (or `system_read_signal_name`) with `CacheReadPayload` as the answer to
    each read, with `watch` also whenever the document has changed, whoever changed it; and ``CACHE_ERROR``.

    file_path                None: ``$MIROS_CACHE_FILE``, else ``.miros_rabbitmq_cache.json`` here
    default_json             contents of a file that is not there yet: JSON text or a mapping
    read_only                writes are refused, and it is never the chart that a bare dict goes to
    take_over_after_s        how long a file that a stranger left un-writable is respected
    node_name                readable part of this host's name in stamps
    connected                asked for `CacheReadPayload.connected`

    Raises `PayloadError` for a malformed `default_json`.  What is wrong with the file itself is an event, not
    an exception: the chart lives on and recovers when the cause goes.
    """

    def __init__(
        self,
        file_path: str | os.PathLike[str] | None = None,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        default_json: str | Mapping[str, Any] | None = None,
        *,
        system_read_signal_name: str = CACHE,
        watch: bool = False,
        read_only: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        take_over_after_s: float = limits.TAKE_OVER_AFTER_S,
        node_name: str | None = None,
        connected: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path = cache_path(file_path)
        super().__init__(self.path.name, live_trace=live_trace, live_spy=live_spy, clock=clock)
        self.file_path, self.file_name = str(self.path), self.path.name
        self.system_read_signal_name = system_read_signal_name
        self.read_only = read_only
        self.connected = connected
        self._rng = rng
        self._watch_wanted = watch
        self._watch: FileWatch | None = None
        self._published_version = ""
        self._reads, self._writes = WaitingLine(), WaitingLine()
        self._served: list[Request] = []
        self._access_error: StoreError | None = None
        self._store = FileStore(
            self.path,
            default=as_contents(default_json or {}),
            clock=clock,
            node_name=node_name,
            take_over_after_s=take_over_after_s,
            notice=lambda reason, message: self.report(reason, message, self.file_name),
        )
        self._build_states()
        self.start_at(self.file_access_waiting)

    def _build_states(self) -> None:
        self.file_access_waiting = (
            self.create(state="file_access_waiting")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.file_access_waiting_ENTRY)
            .catch(signal=signals.CACHE_FILE_READ, handler=self.file_access_waiting_CACHE_FILE_READ)
            .catch(signal=signals.CACHE_FILE_WRITE, handler=self.file_access_waiting_CACHE_FILE_WRITE)
            .catch(signal=signals.CACHE_DESTROY, handler=self.file_access_waiting_CACHE_DESTROY)
            .catch(signal=signals.file_read, handler=self.file_access_waiting_file_read)
            .catch(signal=signals.file_write, handler=self.file_access_waiting_file_write)
            .catch(signal=signals.lock_granted, handler=self.file_access_waiting_lock_granted)
            .catch(signal=signals.file_changed, handler=self.file_access_waiting_file_changed)
            .to_method()
        )
        self.file_accessed = (
            self.create(state="file_accessed")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.file_accessed_ENTRY)
            .catch(signal=signals.EXIT_SIGNAL, handler=self.file_accessed_EXIT)
            .catch(signal=signals.access_failed, handler=self.file_accessed_access_failed)
            .to_method()
        )
        self.file_read = (
            self.create(state="file_read")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.file_read_ENTRY)
            .catch(signal=signals.read_successful, handler=self.file_read_read_successful)
            .to_method()
        )
        self.file_write = (
            self.create(state="file_write")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.file_write_ENTRY)
            .catch(signal=signals.write_successful, handler=self.file_write_write_successful)
            .to_method()
        )
        self.nest(self.file_access_waiting, parent=None).nest(self.file_accessed, parent=self.file_access_waiting)
        self.nest(self.file_read, parent=self.file_accessed).nest(self.file_write, parent=self.file_accessed)

    # --- life -------------------------------------------------------------------------------------

    def start_at(self, state: Any) -> None:
        registry.register(self)
        for name in (CACHE_FILE_READ, CACHE_FILE_WRITE, CACHE_DESTROY):
            self.subscribe(event(name))
        super().start_at(state)

    def stop(self) -> None:
        """End thread, timers and watch, unsubscribe, leave the file writable; says if requests were still waiting."""
        registry.unregister(self)
        super().stop()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._store.close()
        waiting = len(self._writes)
        if waiting:
            self.report(Reason.STOPPED, f"stopped with {waiting} writes still waiting for the file", self.file_name)

    def document(self) -> Document:
        """The present replicated document, read without a lock.  Raises `StoreError` or `DocumentError`."""
        return self._store.read().document

    @property
    def node(self) -> str:
        """This host's name in the stamps of this document."""
        return self._store.access.record.node

    def post_fifo(self, e: Event, period: float | None = None, times: int | None = None, deferred: Any = None) -> Any:
        return super().post_fifo(_posted(e), period, times, deferred)

    def post_lifo(self, e: Event, period: float | None = None, times: int | None = None, deferred: Any = None) -> Any:
        return super().post_lifo(_posted(e), period, times, deferred)

    # --- file_access_waiting ------------------------------------------------------------------------

    def file_access_waiting_ENTRY(self, e: Event) -> int:
        """Make, repair or adopt the file if that is needed, and have it watched."""
        self._look_after_file()
        if self._watch_wanted and self._watch is None:
            self._start_watch()
        return HANDLED

    def file_access_waiting_CACHE_FILE_READ(self, e: Event) -> int:
        if e.payload is None or addressee(str(e.payload), self, _was_posted(e)).mine:
            self.post_fifo(event("file_read", Request()))
        return HANDLED

    def file_access_waiting_CACHE_FILE_WRITE(self, e: Event) -> int:
        try:
            name, make_change = parse_write(e.payload)
            if self._is_mine(name, e):
                self._ask_to_write(make_change())
        except PayloadError as error:
            if registry.default_chart() is self or _was_posted(e):
                self.report(error.reason, str(error), self.file_name)
        return HANDLED

    def file_access_waiting_CACHE_DESTROY(self, e: Event) -> int:
        if self._is_mine(None if e.payload is None else str(e.payload), e):
            self._ask_to_write(Destroy())
        return HANDLED

    def file_access_waiting_file_read(self, e: Event) -> int:
        return self._enter_or_wait(e, self._reads, self.file_read)

    def file_access_waiting_file_write(self, e: Event) -> int:
        return self._enter_or_wait(e, self._writes, self.file_write)

    def file_access_waiting_lock_granted(self, e: Event) -> int:
        """The helper thread has the lock: whoever waits longest is re-posted now instead of later."""
        first = [line.first() for line in (self._reads, self._writes)]
        waiting = sorted((each for each in first if each is not None), key=lambda each: each.arrival)
        if waiting:
            request = waiting[0]
            if request.cancel_repost is not None:
                request.cancel_repost()
            self.post_lifo(event("file_write" if request.change else "file_read", request))
        else:
            self._store.access.give_back()
        return HANDLED

    def file_access_waiting_file_changed(self, e: Event) -> int:
        """The kernel says so: publish what is new, and have a stranger's write stamped."""
        try:
            snapshot = self._store.read()
        except CacheNetError:
            self.post_fifo(event("file_read", Request(quiet=True)))
        else:
            if snapshot.foreign or snapshot.status is None:
                self.post_fifo(event("file_read", Request(quiet=True)))
            else:
                self._publish_if_changed(snapshot)
        return HANDLED

    # --- file_accessed ----------------------------------------------------------------------------

    def file_accessed_ENTRY(self, e: Event) -> int:
        try:
            self._store.access.mark()
        except StoreError as error:
            self._access_error = error
        return HANDLED

    def file_accessed_EXIT(self, e: Event) -> int:
        self._store.leave()
        self._served.clear()
        return HANDLED

    def file_accessed_access_failed(self, e: Event) -> int:
        error, self._access_error = self._access_error, None
        if error is not None:
            self.report(error.reason, str(error), self.file_name)
        return self.trans(self.file_access_waiting)

    def file_read_ENTRY(self, e: Event) -> int:
        return self._in_access("read_successful", self._read_for_all)

    def file_write_ENTRY(self, e: Event) -> int:
        return self._in_access("write_successful", self._write_for_all)

    def file_read_read_successful(self, e: Event) -> int:
        return self.trans(self.file_access_waiting)

    def file_write_write_successful(self, e: Event) -> int:
        return self.trans(self.file_access_waiting)

    # --- what the handlers share --------------------------------------------------------------------

    def _is_mine(self, file_name: str | None, e: Event) -> bool:
        to = addressee(file_name, self, _was_posted(e))
        if to.error:
            self.report(Reason.AMBIGUOUS if to.ambiguous else Reason.PAYLOAD, to.error, self.file_name)
        if to.mine and self.read_only:
            self.report(Reason.PAYLOAD, f"{self.path}: this chart was built read-only", self.file_name)
        return to.mine and not self.read_only

    def _ask_to_write(self, change: Change) -> None:
        self.post_fifo(event("file_write", Request(change)))

    def _enter_or_wait(self, e: Event, line: WaitingLine, target: Any) -> int:
        request: Request = e.payload
        try:
            outcome = self._store.access.try_enter()
        except StoreError as error:
            line.drop(request)
            self.report(error.reason, str(error), self.file_name)
            return HANDLED
        if outcome is Outcome.ENTERED:
            self._served = line.take_with(request)
            return self.trans(target)
        self._wait_and_repost(e, line)
        if outcome is Outcome.LOCKED:
            self._store.access.await_grant(lambda: self.post_fifo(event("lock_granted")))
        return HANDLED

    def _wait_and_repost(self, e: Event, line: WaitingLine) -> None:
        request: Request = e.payload
        if not line.add(request):
            message = (
                f"{limits.WAITING_REQUESTS} requests wait for {self.path} already; this {e.signal_name} is given up"
            )
            self.report(Reason.OVERFLOW, message, self.file_name)
            return
        delay_s = backoff_s(request.failures, self._rng)
        request.failures += 1
        self.scribble(f"REPOST:{e.signal_name} in {delay_s:.3f} s, failure {request.failures}")
        request.cancel_repost = self.post_later(e, delay_s).cancel

    def _in_access(self, done: str, work: Callable[[], None]) -> int:
        if self._access_error is None:
            try:
                work()
            except StoreError as error:
                self._access_error = error
        self.post_lifo(event(done if self._access_error is None else "access_failed"))
        return HANDLED

    def _read_for_all(self) -> None:
        snapshot = self._store.load()
        for request in self._served:
            if not request.quiet:
                self._publish(snapshot)
        self._publish_if_changed(snapshot)

    def _write_for_all(self) -> None:
        changes = [request.change for request in self._served if request.change is not None]
        self._publish_if_changed(self._store.apply(changes, self._change_failed))

    def _change_failed(self, change: Change, error: Exception) -> None:
        reason = error.reason if isinstance(error, CacheNetError) else Reason.HANDLER
        self.report(reason, f"{self.path}: {type(change).__name__.lower()} refused: {error}", self.file_name)

    def _publish_if_changed(self, snapshot: Snapshot) -> None:
        if self._watch_wanted and snapshot.document.version != self._published_version:
            self._publish(snapshot)

    def _publish(self, snapshot: Snapshot) -> None:
        self._published_version = snapshot.document.version
        payload = snapshot.payload(self.path, self.clock.wall_ms(), connected=self.connected())
        self.publish(event(self.system_read_signal_name, payload))

    def _look_after_file(self) -> None:
        try:
            if self._store.access.try_enter() is Outcome.ENTERED:
                self._store.access.mark()
                self._store.load()
        except StoreError as error:
            self.report(error.reason, str(error), self.file_name)
        finally:
            self._store.leave()

    def _start_watch(self) -> None:
        try:
            self._published_version = self._store.read().document.version
            self._watch = FileWatch(self.path, lambda: self.post_fifo(event("file_changed")))
        except (CacheNetError, OSError) as error:
            self.report(Reason.IO, f"{self.path}: cannot be watched: {error}", self.file_name)


def _posted(e: Event) -> Event:
    """A copy that remembers that it was posted to this very chart, not published to all."""
    copy = event(e.signal_name, e.payload)
    copy.posted = True
    return copy


def _was_posted(e: Event) -> bool:
    return bool(e.__dict__.get("posted"))
