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
from miros_cache_net.cache_chart.requests import Request, WaitingRoom, leaves_nothing_of_earlier
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import CacheNetError, DocumentTooLarge, PayloadError, Reason
from miros_cache_net.events import CACHE, CACHE_DESTROY, CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.settings.which_file import cache_file
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.containment import describe
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.store.changes import Begin, Change, Merge, as_contents
from miros_cache_net.store.file_store import FileStore, backoff_s
from miros_cache_net.store.lock import Outcome

if TYPE_CHECKING:
    from miros_cache_net.store.watch import ChangeSource, ChangeSourceFactory

#: How often a chart that is to stop looks whether those who wait for the file have been served.
_FINISH_LOOK_S: Final = 0.01


class CacheFileChart(Chart):
    """Guards the cache file at `file_path`; starts itself.

    Subscribes to ``CACHE_FILE_READ``, ``CACHE_FILE_WRITE`` and ``CACHE_DESTROY``; posted to it directly they
    work the same.  Publishes ``CACHE`` (or `system_read_signal_name`) with `CacheReadPayload` as the answer to
    each read, with `watch` also whenever the document or `connected` has changed, whoever changed it; and
    ``CACHE_ERROR``.

    file_path                None: the setting `file`, else ``.miros_rabbitmq_cache.json`` here
    default_json             contents of a file that is not there yet: JSON text or a mapping
    watch                    True: the kernel tells of changes; or what makes another source of such news
    read_only                writes are refused, nothing is made or repaired, and it is never the chart that a
                             bare dict goes to
    take_over_after_s        how long a file that a stranger left un-writable is respected
    node_name                readable part of this host's name in stamps
    connected                asked for `CacheReadPayload.connected`

    Raises `PayloadError` for a malformed `default_json`, and `SettingsError` where no file is named and the settings
    cannot be read.  What is wrong with the file itself is an event, not an exception: the chart lives on, answers
    reads without the lock where it can, and recovers when the cause goes.
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
    ) -> None:
        self.store = FileStore(
            cache_file(file_path),
            default=as_contents(default_json or {}),
            clock=clock,
            node_name=node_name,
            take_over_after_s=take_over_after_s,
            notice=lambda reason, message: self.report(reason, message, self.file_name),
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
        """The present replicated document, read without a lock.  Raises `StoreError` or `DocumentError`."""
        return self.store.read().document

    @property
    def node(self) -> str:
        """This host's name in the stamps of this document."""
        return self.store.access.record.node

    def start_at(self, initial_state: Any = None) -> None:
        addressing.register(self)
        super().start_at(initial_state)

    def stop(self) -> None:
        """Serve what was asked already, then end thread, timers and watch, unsubscribe, and leave the file writable.

        That takes at most `limits.STOP_FINISH_S`; says so (`CACHE_ERROR`, reason ``stopped``) if requests were still
        waiting.  From one of the chart's own handlers nothing is waited for.
        """
        addressing.unregister(self)
        if self._forked:
            return
        lost_reads, lost_writes = self._finish()
        super().stop()
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

    def replaces_all(self, e: Event) -> bool:
        """Whether `e` is a whole write, or the destruction, of this chart's file."""
        with contextlib.suppress(Exception):  # a wrong payload is no such thing
            if e.signal_name in (CACHE_FILE_WRITE, CACHE_DESTROY):
                name, make_change = asked_by(e)
                return addressee(name, self, was_posted(e)).mine and leaves_nothing_of_earlier(make_change())
        return False

    # --- file_access_waiting ------------------------------------------------------------------------

    def file_access_waiting_ENTRY(self, e: Event) -> int:
        """Make, repair or adopt the file if that is needed, and have it watched."""
        if not self.read_only:
            self._make_file()
        with contextlib.suppress(CacheNetError):
            self._answers.begin_with(self.store.read())
        if self._watch_factory is not None and self._watch is None:
            self._watch = self._watch_factory(self.path, lambda: self.post_fifo(event("file_changed")))
        return HANDLED

    def file_access_waiting_CACHE_FILE_READ(self, e: Event) -> int:
        if e.payload is None or addressee(str(e.payload), self, was_posted(e)).mine:
            self._ask(Request())
        return HANDLED

    def file_access_waiting_CACHE_FILE_WRITE(self, e: Event) -> int:
        try:
            name, make_change = asked_by(e)
            if self._is_mine(name, e):
                self._ask(Request(make_change()))
        except PayloadError as error:
            if addressing.default_chart() is self or was_posted(e):
                self._report_error(error)
        return HANDLED

    file_access_waiting_CACHE_DESTROY = file_access_waiting_CACHE_FILE_WRITE

    def file_access_waiting_file_changed(self, e: Event) -> int:
        """The kernel says so: publish what is new, and have a stranger's write stamped."""
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

    def file_access_waiting_file_read(self, e: Event) -> int:
        """It is somebody's turn: enter, for all who wait for the same; or find the file taken, and wait."""
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

    file_access_waiting_file_write = file_access_waiting_file_read

    def file_access_waiting_lock_granted(self, e: Event) -> int:
        """The helper thread has the lock: whoever waits longest is re-posted now instead of later."""
        if not self._repost_first():
            self.store.access.give_back()
        return HANDLED

    def file_access_waiting_finish(self, e: Event) -> int:
        """Of `stop`: what was posted before it comes first, and what it led to."""
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

    def file_accessed_ENTRY(self, e: Event) -> int:
        try:
            self.store.access.mark()
        except CacheNetError as error:
            self._access_error = error
        return HANDLED

    def file_accessed_EXIT(self, e: Event) -> int:
        self.store.leave()
        self._served = ()
        self._repost_first()
        return HANDLED

    def file_accessed_lock_granted(self, e: Event) -> int:
        return HANDLED  # the lock is in use already; who waits is re-posted on leaving

    def file_accessed_access_failed(self, e: Event) -> int:
        error, self._access_error = self._access_error, None
        requests = self._served
        status = self.trans("file_access_waiting")
        if error is not None:
            self._refuse(requests, error)
        return status

    def file_read_ENTRY(self, e: Event) -> int:
        return self._in_access("read_successful", self._read_for)

    def file_read_read_successful(self, e: Event) -> int:
        return self.trans("file_access_waiting")

    def file_write_ENTRY(self, e: Event) -> int:
        return self._in_access("write_successful", self._write_for)

    def file_write_write_successful(self, e: Event) -> int:
        return self.trans("file_access_waiting")

    # --- taking turns -------------------------------------------------------------------------------

    def _ask(self, request: Request) -> None:
        # never refused: the event that asked for it was accepted, and has just left its place in the queue
        self.post_always(event(request.signal_name, request))

    def _is_mine(self, file_name: str | None, e: Event) -> bool:
        to = addressee(file_name, self, was_posted(e))
        if to.error:
            self.report(Reason.AMBIGUOUS if to.ambiguous else Reason.PAYLOAD, to.error, self.file_name)
        if to.mine and self.read_only:
            self.report(Reason.PAYLOAD, f"{self.file_path}: this chart was built read-only", self.file_name)
        return to.mine and not self.read_only

    def _lock_granted(self) -> None:
        # in front of what waits: the lock is held from now on
        self.post_lifo(event("lock_granted"))

    def _wait_and_repost(self, e: Event) -> None:
        request: Request = e.payload
        given_up = self._waiting.line_of(request).add(request)
        if given_up is not None:
            which = "this" if given_up is request else "an older"
            message = (
                f"{limits.WAITING_REQUESTS} requests wait for {self.file_path} already; "
                f"{which} {e.signal_name} is given up"
            )
            self.report(Reason.OVERFLOW, message, self.file_name)
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
        """Wait, bounded, until all is served; how many reads and writes are left in the queue."""
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
        self._answers.tell_if_new(self.store.apply(changes, self._change_failed))

    def _refuse(self, requests: Sequence[Request], error: Exception) -> None:
        """The file could not serve these."""
        writes = sum(1 for request in requests if request.change is not None)
        self._report_error(error, f"{writes} writes were not stored: " if writes > 1 else "")
        for request in requests:
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
        """Report what went wrong with the file, or with what a caller handed over."""
        reason = error.reason if isinstance(error, CacheNetError) else Reason.HANDLER
        message = str(error) if isinstance(error, CacheNetError) else f"{self.file_path}: {describe(error)}"
        self.report(reason, f"{what}{message}", self.file_name)


def _file_watch() -> ChangeSourceFactory:
    from miros_cache_net.store.watch import FileWatch  # a chart that is not told of changes pays nothing for it

    return FileWatch
