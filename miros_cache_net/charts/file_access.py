"""Taking turns at one cache file: wait, enter, read or write for all who wait, leave.  When, not what."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.charts.requests import Request, WaitingRoom
from miros_cache_net.clock import Clock
from miros_cache_net.errors import CacheNetError, Reason
from miros_cache_net.events import CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.containment import describe
from miros_cache_net.statechart.state import HANDLED
from miros_cache_net.store.file_store import FileStore, backoff_s
from miros_cache_net.store.lock import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random
    from typing import Any, Final


#: How often a chart that is to stop looks whether those who wait for the file have been served.
_FINISH_LOOK_S: Final = 0.01


class FileAccessChart(Chart):
    """States ``file_access_waiting`` > ``file_accessed`` > {``file_read``, ``file_write``}.

    `ask` queues a request; a subclass says what is done for those whose turn it is: `read_for`, `write_for`, and
    `refuse` for those that the file could not serve.
    """

    def __init__(
        self,
        store: FileStore,
        *,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        clock: Clock,
        rng: Random | None = None,
    ) -> None:
        super().__init__(os.path.basename(store.path), live_trace=live_trace, live_spy=live_spy, clock=clock)
        self.store = store
        self.file_path, self.file_name = store.path, os.path.basename(store.path)
        self._rng = rng
        self._waiting = WaitingRoom()
        self._served: Sequence[Request] = ()
        self._access_error: Exception | None = None

    # --- what a subclass says -----------------------------------------------------------------------

    def read_for(self, requests: Sequence[Request]) -> None:
        """Inside the access: answer these."""
        raise NotImplementedError

    def write_for(self, requests: Sequence[Request]) -> None:
        """Inside the access: make the changes of these, in this order."""
        raise NotImplementedError

    def refuse(self, requests: Sequence[Request], error: Exception) -> None:
        """Outside: the file could not serve these."""
        raise NotImplementedError

    def look_after_file(self, e: Event) -> int:
        """Called on entry to ``file_access_waiting``."""
        return HANDLED

    # --- states -------------------------------------------------------------------------------------

    def build_states(self, **also_while_waiting: Callable[[Event], int]) -> Any:
        """Declare the states and return the one to start at; `also_while_waiting`: more that the outermost handles."""
        self.state(
            "file_access_waiting",
            ENTRY_SIGNAL=self.look_after_file,
            file_read=self.file_access_waiting_file_request,
            file_write=self.file_access_waiting_file_request,
            lock_granted=self.file_access_waiting_lock_granted,
            finish=self.file_access_waiting_finish,
            **also_while_waiting,
        )
        self.state(
            "file_accessed",
            parent="file_access_waiting",
            ENTRY_SIGNAL=self.file_accessed_ENTRY,
            EXIT_SIGNAL=self.file_accessed_EXIT,
            access_failed=self.file_accessed_access_failed,
            lock_granted=self.file_accessed_lock_granted,
        )
        self.state(
            "file_read",
            parent="file_accessed",
            ENTRY_SIGNAL=self.file_read_ENTRY,
            read_successful=self.file_accessed_access_ended,
        )
        self.state(
            "file_write",
            parent="file_accessed",
            ENTRY_SIGNAL=self.file_write_ENTRY,
            write_successful=self.file_accessed_access_ended,
        )
        return "file_access_waiting"

    def ask(self, request: Request) -> None:
        """Post the private event that asks for the file."""
        # never refused: the event that asked for it was accepted, and has just left its place in the queue
        self.post_always(event(request.signal_name, request))

    def file_access_waiting_file_request(self, e: Event) -> int:
        request: Request = e.payload
        if request.settled:
            return HANDLED
        try:
            outcome = self.store.access.try_enter()
        except CacheNetError as error:
            self._waiting.line_of(request).drop(request)
            self.refuse([request], error)
            return HANDLED
        if outcome is Outcome.ENTERED:
            self._served = self._waiting.line_of(request).take_with(request)
            return self.trans(request.signal_name)
        self._wait_and_repost(e)
        if outcome is Outcome.LOCKED:
            self.store.access.await_grant(self._lock_granted)
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

    def file_access_waiting_lock_granted(self, e: Event) -> int:
        """The helper thread has the lock: whoever waits longest is re-posted now instead of later."""
        if not self._repost_first():
            self.store.access.give_back()
        return HANDLED

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
            self.refuse(requests, error)
        return status

    def file_accessed_access_ended(self, e: Event) -> int:
        return self.trans("file_access_waiting")

    def file_read_ENTRY(self, e: Event) -> int:
        return self._in_access("read_successful", self.read_for)

    def file_write_ENTRY(self, e: Event) -> int:
        return self._in_access("write_successful", self.write_for)

    def _finish(self) -> tuple[int, int]:
        """Wait, bounded, until all is served; how many reads and writes are left in the queue."""
        if not self.running or self._in_own_thread():
            return 0, 0
        finished = threading.Event()
        deadline_s = time.monotonic() + limits.STOP_FINISH_S
        self.post_always(event("finish", (finished, deadline_s)))
        if finished.wait(limits.STOP_FINISH_S + _FINISH_LOOK_S) and not len(self.queue):
            return 0, 0
        # who waits for the file and has just been re-posted is counted among those who wait
        left = [
            each.signal_name
            for each in self.queue.waiting()
            if not (isinstance(each.payload, Request) and each.payload in self._waiting.line_of(each.payload))
        ]
        return (
            left.count(CACHE_FILE_READ) + left.count("file_read"),
            left.count(CACHE_FILE_WRITE) + left.count("file_write"),
        )

    # --- what the handlers share --------------------------------------------------------------------

    def _lock_granted(self) -> None:
        # in front of what waits: the lock is held from now on
        self.post_lifo(event("lock_granted"))

    def _in_access(self, done: str, work: Callable[[Sequence[Request]], None]) -> int:
        if self._access_error is None:
            try:
                work(self._served)
            except Exception as error:
                self._access_error = error
        self.post_lifo(event(done if self._access_error is None else "access_failed"))
        return HANDLED

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

    def report_error(self, error: Exception, what: str = "") -> None:
        """Report what went wrong with the file, or with what a caller handed over."""
        reason = error.reason if isinstance(error, CacheNetError) else Reason.HANDLER
        message = str(error) if isinstance(error, CacheNetError) else f"{self.file_path}: {describe(error)}"
        self.report(reason, f"{what}{message}", self.file_name)

    def stop(self) -> None:
        """Serve what was asked already, then end thread and timers, unsubscribe, and leave the file writable.

        That takes at most `limits.STOP_FINISH_S`; says so (`CACHE_ERROR`, reason ``stopped``) if requests were still
        waiting.  From one of the chart's own handlers nothing is waited for.
        """
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
