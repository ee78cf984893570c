"""`CacheFileChart`: the statechart that guards one cache file.  It decides when; `store` does what."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.cache_chart import addressing
from miros_cache_net.cache_chart.addressing import addressee, as_posted, asked_by, was_posted
from miros_cache_net.cache_chart.answers import Answers
from miros_cache_net.cache_chart.callbacks import change_listener
from miros_cache_net.cache_chart.requests import Request, WaitingRoom, leaves_nothing_of_earlier
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import CacheNetError, ChartError, DocumentTooLarge, PayloadError, Reason, StoreError
from miros_cache_net.events import CACHE, CACHE_DESTROY, CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.observe.registry import PROCESS, Registry
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings.which_file import cache_file
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.containment import describe
from miros_cache_net.statechart.listener import Listener
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.store.changes import Begin, Change, Merge, as_contents
from miros_cache_net.store.file_store import FileStore, backoff_s
from miros_cache_net.store.lock import Outcome

if TYPE_CHECKING:
    from miros_cache_net.store.watch import ChangeSource, ChangeSourceFactory

#: How often a stopping chart checks whether the requests that wait for the file have been served.
_FINISH_LOOK_S: Final = 0.01


class CacheFileChart(Chart):
    """Guards the cache file at `file_path`; starts itself.

    Subscribes to ``CACHE_FILE_READ``, ``CACHE_FILE_WRITE`` and ``CACHE_DESTROY``; posted to it directly they
    work the same.  Publishes ``CACHE`` (or `system_read_signal_name`) with `CacheReadPayload` as the answer to
    each read, with `watch` also whenever the document or `connected` has changed, whatever changed it; and
    ``CACHE_ERROR``.

    file_path                None: the setting `file`, else ``.miros_rabbitmq_cache.json`` in the working directory
    default_json             contents of a file that does not exist yet: JSON text or a mapping
    watch                    True: the kernel reports changes; or a factory of another source of change notices
    read_only                writes are refused, nothing is made or repaired, and a bare dict never goes to this
                             chart
    take_over_after_s        how long, in seconds, a file that a foreign program left un-writable is respected
    node_name                readable part of this host's name in stamps
    connected                called for `CacheReadPayload.connected`
    registry                 counts writes and repairs of the file

    Raises `PayloadError` for a malformed `default_json`, and `SettingsError` if no file is named and the settings
    cannot be read.  Trouble with the file itself is an event, not an exception: the chart keeps running, answers
    reads without the lock if it can, and recovers once the cause is gone.
    """

    STATES = (
        State(
            "file_access_waiting",
            ENTRY=STAYS,
            file_read="file_read",
            file_write="file_write",
            lock_granted=STAYS,
            finish=STAYS,
            CACHE_FILE_READ=STAYS,
            CACHE_FILE_WRITE=STAYS,
            CACHE_DESTROY=STAYS,
            file_changed=STAYS,
        ),
        State(
            "file_accessed",
            "file_access_waiting",
            ENTRY=STAYS,
            EXIT=STAYS,
            access_failed="file_access_waiting",
            lock_granted=STAYS,
        ),
        State("file_read", "file_accessed", ENTRY=STAYS, read_successful="file_access_waiting"),
        State("file_write", "file_accessed", ENTRY=STAYS, write_successful="file_access_waiting"),
    )

    def __init__(
        self,
        file_path: str | os.PathLike[str] | None = None,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        default_json: str | Mapping[str, Any] | None = None,
        *,
        system_read_signal_name: str = CACHE,
        watch: bool | ChangeSourceFactory = False,
        read_only: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        rng: Random | None = None,
        take_over_after_s: float = limits.TAKE_OVER_AFTER_S,
        node_name: str | None = None,
        connected: Callable[[], bool] = lambda: False,
        registry: Registry = PROCESS,
    ) -> None:
        self.store = FileStore(
            cache_file(file_path),
            default=as_contents(default_json or {}),
            clock=clock,
            node_name=node_name,
            take_over_after_s=take_over_after_s,
            notice=lambda reason, message: self.report(reason, message, self.file_name),
            registry=registry,
        )
        self.file_path, self.file_name = self.store.path, os.path.basename(self.store.path)
        super().__init__(self.file_name, live_trace=live_trace, live_spy=live_spy, clock=clock)
        self.system_read_signal_name = system_read_signal_name
        self.read_only = read_only
        self._rng = rng
        self._waiting = WaitingRoom()
        self._served: Sequence[Request] = ()
        self._access_error: Exception | None = None
        self._watch_factory: ChangeSourceFactory | None = _file_watch() if watch is True else watch or None
        self._watch: ChangeSource | None = None
        self._listeners: set[Listener] = set()
        self._answers = Answers(
            self.file_path,
            system_read_signal_name,
            clock=clock,
            connected=connected,
            tells_changes=self._watch_factory is not None,
            publish=self.publish,
        )
        for name in (CACHE_FILE_READ, CACHE_FILE_WRITE, CACHE_DESTROY):
            self.subscribe(name)
        self.start_at()

    # --- what its owner asks ------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The cache file."""
        return Path(self.file_path)

    def document(self) -> Document:
        """The current replicated document, read without a lock.  Raises `StoreError` or `DocumentError`."""
        return self.store.read().document

    @property
    def node(self) -> str:
        """This host's name in the stamps of this document."""
        return self.store.access.record.node

    def on_change(self, callback: Callable[[CacheReadPayload], object]) -> Callable[[], None]:
        """Have ``callback(payload)`` called for each new state of the document, whatever wrote it, from this call on.

        The calls come one after the other on a thread of their own; states in quick succession may be merged into one.
        An exception of the callback is reported (``CACHE_ERROR``, reason `handler`), and the calls continue.  The
        returned function ends them, and so does `stop`.  Raises `ChartError` for a chart that was built without
        `watch`, or is stopped.
        """
        if self._watch_factory is None:
            raise ChartError(f"{self.file_path}: this chart does not watch for changes; build it with watch=True")
        if not self.running:
            raise ChartError(f"{self.file_path}: this chart was stopped")
        listener = change_listener(self.system_read_signal_name, self.file_path, self._version, callback)
        with self._life:
            self._listeners.add(listener)

        def end() -> None:
            self._listeners.discard(listener)
            listener.stop()

        return end

    def _version(self) -> str:
        with contextlib.suppress(CacheNetError):
            return self.store.read().face.version
        return ""

    def start_at(self, initial_state: Any = None) -> None:
        addressing.register(self)
        super().start_at(initial_state)

    def stop(self) -> None:
        """Serve earlier requests, then end thread, timers and watch, unsubscribe, and leave the file writable.

        Serving takes at most `limits.STOP_FINISH_S`; if requests still wait then, reports it (`CACHE_ERROR`, reason
        ``stopped``).  Called from one of the chart's own handlers, it does not wait.
        """
        addressing.unregister(self)
        if self._forked:
            return
        lost_reads, lost_writes = self._finish()
        super().stop()
        while self._listeners:
            self._listeners.pop().stop()
        self.store.close()
        reads, writes = self._waiting.clear()
        reads, writes = reads + lost_reads, writes + lost_writes
        if reads or writes:
            message = f"{self.file_path}: stopped while {writes} writes and {reads} reads waited for the file"
            self.report(Reason.STOPPED, message, self.file_name)
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def post_fifo(self, e: Event, period: float | None = None, times: int | None = None, deferred: Any = None) -> Any:
        return super().post_fifo(as_posted(e), period, times, deferred)

    def post_lifo(self, e: Event, period: float | None = None, times: int | None = None, deferred: Any = None) -> Any:
        return super().post_lifo(as_posted(e), period, times, deferred)

    def _replaces_all(self, e: Event) -> bool:
        """Whether `e` is a whole write, or the destroy, of this chart's file."""
        with contextlib.suppress(Exception):  # an event with a wrong payload is neither
            if e.signal_name in (CACHE_FILE_WRITE, CACHE_DESTROY):
                name, make_change = asked_by(e)
                return addressee(name, self, was_posted(e)).mine and leaves_nothing_of_earlier(make_change())
        return False

    # --- file_access_waiting ------------------------------------------------------------------------

    def _file_access_waiting_ENTRY(self, e: Event) -> int:
        """Make, repair or adopt the file if necessary, and start the watch."""
        if not self.read_only:
            self._make_file()
        with contextlib.suppress(CacheNetError):
            self._answers.begin_with(self.store.read())
        if self._watch_factory is not None and self._watch is None:
            self._watch = self._watch_factory(self.path, lambda: self.post_fifo(event("file_changed")))
        return HANDLED

    def _file_access_waiting_CACHE_FILE_READ(self, e: Event) -> int:
        if e.payload is None or addressee(str(e.payload), self, was_posted(e)).mine:
            self._ask(Request())
        return HANDLED

    def _file_access_waiting_CACHE_FILE_WRITE(self, e: Event) -> int:
        try:
            name, make_change = asked_by(e)
            if self._is_mine(name, e):
                self._ask(Request(make_change(), over=getattr(e.payload, "over", None)))
        except PayloadError as error:
            if addressing.default_chart() is self or was_posted(e):
                self._report_error(error)
        return HANDLED

    _file_access_waiting_CACHE_DESTROY = _file_access_waiting_CACHE_FILE_WRITE

    def _file_access_waiting_file_changed(self, e: Event) -> int:
        """The file has changed: publish the news, and have a foreign program's write stamped."""
        try:
            snapshot = self.store.read()
        except CacheNetError:
            self._ask(Request(quiet=True))
        else:
            if (snapshot.foreign or snapshot.status is None) and not self.read_only:
                self._ask(Request(quiet=True))
            else:
                self._answers.tell_if_new(snapshot)
        return HANDLED

    def _file_access_waiting_file_read(self, e: Event) -> int:
        """A request's turn: enter for all waiting requests of its kind; or find the file taken, and wait."""
        request: Request = e.payload
        if request.settled:
            return HANDLED
        try:
            outcome = self.store.access.try_enter()
        except CacheNetError as error:
            self._waiting.line_of(request).drop(request)
            self._refuse([request], error)
            return HANDLED
        if outcome is Outcome.ENTERED:
            self._served = self._waiting.line_of(request).take_with(request)
            return self.trans(request.signal_name)
        self._wait_and_repost(e)
        if outcome is Outcome.LOCKED:
            self.store.access.await_grant(self._lock_granted)
        return HANDLED

    _file_access_waiting_file_write = _file_access_waiting_file_read

    def _file_access_waiting_lock_granted(self, e: Event) -> int:
        """The helper thread has the lock: re-post the request that has waited longest now instead of later."""
        if not self._repost_first():
            self.store.access.give_back()
        return HANDLED

    def _file_access_waiting_finish(self, e: Event) -> int:
        """Sent by `stop`: events posted before it come first, together with the requests they led to."""
        finished, deadline_s = e.payload
        waits = bool(len(self.queue)) or self._waiting.first() is not None
        if not waits or time.monotonic() >= deadline_s:
            finished.set()
        elif len(self.queue):
            self.post_always(e)
        else:
            self.post_later(e, _FINISH_LOOK_S, always=True)
        return HANDLED

    # --- file_accessed ------------------------------------------------------------------------------

    def _file_accessed_ENTRY(self, e: Event) -> int:
        try:
            self.store.access.mark()
        except CacheNetError as error:
            self._access_error = error
        return HANDLED

    def _file_accessed_EXIT(self, e: Event) -> int:
        self.store.leave()
        self._served = ()
        self._repost_first()
        return HANDLED

    def _file_accessed_lock_granted(self, e: Event) -> int:
        return HANDLED  # the lock is in use already; the exit handler re-posts a waiting request

    def _file_accessed_access_failed(self, e: Event) -> int:
        error, self._access_error = self._access_error, None
        requests = self._served
        status = self.trans("file_access_waiting")
        if error is not None:
            self._refuse(requests, error)
        return status

    def _file_read_ENTRY(self, e: Event) -> int:
        return self._in_access("read_successful", self._read_for)

    def _file_read_read_successful(self, e: Event) -> int:
        return self.trans("file_access_waiting")

    def _file_write_ENTRY(self, e: Event) -> int:
        return self._in_access("write_successful", self._write_for)

    def _file_write_write_successful(self, e: Event) -> int:
        return self.trans("file_access_waiting")

    # --- taking turns -------------------------------------------------------------------------------

    def _ask(self, request: Request) -> None:
        # Never refused: the event that asked for it was accepted, and has just left its slot in the queue.
        self.post_always(event(request.signal_name, request))

    def _is_mine(self, file_name: str | None, e: Event) -> bool:
        to = addressee(file_name, self, was_posted(e))
        if to.error:
            self.report(Reason.AMBIGUOUS if to.ambiguous else Reason.PAYLOAD, to.error, self.file_name)
        if to.mine and self.read_only:
            self.report(Reason.PAYLOAD, f"{self.file_path}: this chart was built read-only", self.file_name)
        return to.mine and not self.read_only

    def _lock_granted(self) -> None:
        # In front of the waiting events: the lock is held from now on.
        self.post_lifo(event("lock_granted"))

    def _wait_and_repost(self, e: Event) -> None:
        request: Request = e.payload
        given_up = self._waiting.line_of(request).add(request)
        if given_up is not None:
            which = "this" if given_up is request else "an older"
            message = (
                f"{limits.WAITING_REQUESTS} requests already wait for {self.file_path}; "
                f"{which} {e.signal_name} is given up"
            )
            self.report(Reason.OVERFLOW, message, self.file_name)
            given_up.tell_over(StoreError(message))
        if given_up is request:
            return
        delay_s = backoff_s(request.failures, self._rng)
        request.failures += 1
        self.scribble(f"REPOST:{e.signal_name} in {delay_s:.3f} s, failure {request.failures}")
        request.cancel_repost = self.post_later(e, delay_s, always=True).cancel

    def _repost_first(self) -> bool:
        request = self._waiting.first()
        if request is None:
            return False
        if request.cancel_repost is not None:
            request.cancel_repost()
        self.post_lifo(event(request.signal_name, request))
        return True

    def _in_access(self, done: str, work: Callable[[Sequence[Request]], None]) -> int:
        if self._access_error is None:
            try:
                work(self._served)
            except Exception as error:
                self._access_error = error
        self.post_lifo(event(done if self._access_error is None else "access_failed"))
        return HANDLED

    def _finish(self) -> tuple[int, int]:
        """Wait, bounded, until all requests are served; returns how many reads and writes are left in the queue."""
        if not self.running or self._in_own_thread():
            return 0, 0
        finished = threading.Event()
        deadline_s = time.monotonic() + limits.STOP_FINISH_S
        self.post_always(event("finish", (finished, deadline_s)))
        if finished.wait(limits.STOP_FINISH_S + _FINISH_LOOK_S) and not len(self.queue):
            return 0, 0
        return self._waiting.asked_besides(self.queue.waiting())

    # --- what is done with the file -----------------------------------------------------------------

    def _make_file(self) -> None:
        try:
            if self.store.access.try_enter() is Outcome.ENTERED:
                self.store.access.mark()
                self.store.load()
            else:
                self._ask(Request(quiet=True))
        except CacheNetError as error:
            self._report_error(error)
        finally:
            self.store.leave()

    def _read_for(self, requests: Sequence[Request]) -> None:
        snapshot = self.store.read() if self.read_only else self.store.load()
        self._answers.answer(requests, snapshot)

    def _write_for(self, requests: Sequence[Request]) -> None:
        changes = [request.change for request in requests if request.change is not None]
        failed: dict[int, Exception] = {}

        def change_failed(change: Change, error: Exception) -> None:
            failed[id(change)] = error
            self._change_failed(change, error)

        self._answers.tell_if_new(self.store.apply(changes, change_failed))
        for request in requests:
            request.tell_over(failed.get(id(request.change)))

    def _refuse(self, requests: Sequence[Request], error: Exception) -> None:
        """Report that the file could not serve these requests; answer reads without the lock if possible."""
        writes = sum(1 for request in requests if request.change is not None)
        self._report_error(error, f"{writes} writes were not stored: " if writes > 1 else "")
        for request in requests:
            request.tell_over(error)
            if isinstance(request.change, Begin):
                request.change.began(None)
        reads = [request for request in requests if request.change is None]
        if reads:
            try:
                self._answers.answer(reads, self.store.read())
            except Exception as again:
                self.log.debug("not readable without the lock either: %s", again)

    def _change_failed(self, change: Change, error: Exception) -> None:
        if isinstance(change, Merge) and change.refused is not None and isinstance(error, DocumentTooLarge):
            change.refused(error)
        self._report_error(error, f"{self.file_path}: {type(change).__name__.lower()} refused: ")

    def _report_error(self, error: Exception, what: str = "") -> None:
        """Report an error about the file or about a caller's contents."""
        reason = error.reason if isinstance(error, CacheNetError) else Reason.HANDLER
        message = str(error) if isinstance(error, CacheNetError) else f"{self.file_path}: {describe(error)}"
        self.report(reason, f"{what}{message}", self.file_name)


def _file_watch() -> ChangeSourceFactory:
    from miros_cache_net.store.watch import FileWatch  # a chart without a watch does not pay for the import

    return FileWatch
