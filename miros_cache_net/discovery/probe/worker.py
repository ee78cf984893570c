"""The thread of a `Prober`: an event loop and a queue of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from miros_cache_net.discovery.probe.progress import Concluded, Progress
from miros_cache_net.discovery.probe.resolve import LookUp, Resolver
from miros_cache_net.discovery.probe.steps import run_probe
from miros_cache_net.discovery.probe.verdict import ProbeResult, ProbeTarget, Verdict
from miros_cache_net.observe.families import SCOUTED
from miros_cache_net.observe.registry import PROCESS

_log = logging.getLogger(__name__)
_scouted: Final = PROCESS.labelled(SCOUTED)

Done = Callable[[ProbeResult], None]


class Job:
    """One requested probe.  Once sent, it is used only on the worker's thread."""

    def __init__(self, target: ProbeTarget, done: Done) -> None:
        self.target = target
        self.done = done
        self.progress = Progress(target)
        self.task: asyncio.Task[ProbeResult] | None = None
        #: The end of the probe if its task is cancelled; None: it ran out of time.
        self.cancelled_because: Concluded | None = None
        self.finished = False


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make a loop, after a check that enough descriptors are free: asyncio never closes a half-made loop."""
    with contextlib.ExitStack() as granted:
        granted.callback(selectors.DefaultSelector().close)
        for each in socket.socketpair():
            granted.callback(each.close)
    return asyncio.new_event_loop()


class Worker:
    """The prober's thread, from its start to its end.  Raises `OSError` without a descriptor, `RuntimeError` without a
    thread.

    `send`, `cancel` and `retire` may be called from any thread; the rest runs on the worker's own.
    `may_end` is called after `idle_s` without a job; if it returns False, the worker continues.
    """

    def __init__(self, at_once: int, idle_s: float, look_up: LookUp, may_end: Callable[[Worker], bool]) -> None:
        self.jobs_finished = 0
        self._at_once = at_once
        self._idle_s = idle_s
        self._may_end = may_end
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._retired = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._resolver = Resolver(look_up)
        self._loop = _new_loop()
        self.thread = threading.Thread(target=self._run, name="miros-cache-probes", daemon=True)
        try:
            self.thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def send(self, job: Job) -> None:
        self._loop.call_soon_threadsafe(self._add, job)

    def cancel(self, job: Job) -> None:
        self._loop.call_soon_threadsafe(self._cancel, job)

    def retire(self) -> None:
        """Cancel all jobs, then end the thread."""
        self._loop.call_soon_threadsafe(self._cancel_all)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _add(self, job: Job) -> None:
        self._waiting.append(job)
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            job = self._waiting.popleft()
            self._running.add(job)
            job.task = self._loop.create_task(run_probe(job.progress, self._resolver))
            timer = self._loop.call_later(job.target.timeout_s, self._late, job)
            job.task.add_done_callback(partial(self._task_done, job, timer))

    def _late(self, job: Job) -> None:
        if job.task is not None:
            job.task.cancel()

    def _task_done(self, job: Job, timer: asyncio.TimerHandle, task: asyncio.Task[ProbeResult]) -> None:
        timer.cancel()
        self._running.discard(job)
        self._start_waiting()
        if task.cancelled():
            progress, because = job.progress, job.cancelled_because
            self._finish(job, progress.result(because) if because else progress.furthest(progress.if_late))
        elif (error := task.exception()) is not None:
            _log.error("the probe of %s failed", job.target.address, exc_info=error)
            self._finish(
                job, job.progress.result(_cancelled(f"the probe failed ({type(error).__name__}): see the log"))
            )
        else:
            self._finish(job, task.result())

    def _cancel(self, job: Job) -> None:
        if job.finished:
            return
        job.cancelled_because = _cancelled("cancelled")
        if job.task is not None:
            job.task.cancel()
        else:
            self._waiting.remove(job)
            self._finish(job, job.progress.result(job.cancelled_because))

    def _cancel_all(self) -> None:
        self._retired = True
        for job in [*self._waiting, *self._running]:
            self._cancel(job)
        self._when_empty()

    def _finish(self, job: Job, result: ProbeResult) -> None:
        job.finished = True
        self.jobs_finished += 1
        _scouted.add(result.verdict.value)
        try:
            job.done(result)
        except Exception:
            _log.exception("whoever asked for the probe of %s failed on its result", result.host)
        self._when_empty()

    def _when_empty(self) -> None:
        if self._waiting or self._running:
            return
        if self._retired:
            # In the loop's next iteration: in this one, aborted connections close their sockets.
            self._loop.call_soon(self._loop.stop)
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self._loop.call_later(self._idle_s, self._idle)

    def _idle(self) -> None:
        if self._may_end(self):
            self._loop.stop()


def _cancelled(detail: str) -> Concluded:
    return Concluded(Verdict.CANCELLED, detail)
