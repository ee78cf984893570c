"""Probes: is there a RabbitMQ at this address that we may use?  Any number at once, on one thread.

A probe publishes nothing and declares nothing.  It sends a password only to a server that greets as
RabbitMQ and either lies in a trusted network or has proved over TLS who it is.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final

from miros_cache_net import limits
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.discovery.probe.verdict import ProbeResult, ProbeTarget, Verdict
from miros_cache_net.discovery.probe.worker import Done, Job, Worker

__all__ = ["ProbeHandle", "ProbeResult", "ProbeTarget", "Prober", "Verdict", "shared_prober", "target_for"]


class ProbeHandle:
    """One probe under way."""

    def __init__(self, prober: Prober, worker: Worker, job: Job) -> None:
        self._prober = prober
        self._worker = worker
        self._job = job

    def cancel(self) -> None:
        """End the probe: `done` is told `Verdict.CANCELLED`, unless its result is on the way already.

        From any thread, any number of times.  In a forked child it does nothing.
        """
        self._prober._cancel(self._worker, self._job)


class Prober:
    """Serves probes on one thread, which starts with the first and ends when none came for `idle_s` seconds.

    `at_once` probes run at the same time, the others wait their turn: first come, first served.
    Every method may be called from any thread.  In a forked child the prober starts empty: probes
    that its parent asked for are answered in the parent only.
    """

    def __init__(self, *, at_once: int = limits.SCOUTS_AT_ONCE, idle_s: float = limits.PROBER_IDLE_S) -> None:
        self._at_once = at_once
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._jobs_sent = 0
        _probers.add(self)

    def probe(self, target: ProbeTarget, done: Done) -> ProbeHandle:
        """Probe `target`; `done` gets the result, once, on the prober's thread, and must return at once."""
        job = Job(target, done)
        with self._lock:
            if self._worker is None:
                self._worker = Worker(self._at_once, self._idle_s, self._may_end)
                self._jobs_sent = 0
            self._jobs_sent += 1
            self._worker.send(job)
            return ProbeHandle(self, self._worker, job)

    def close(self) -> None:
        """Cancel every probe and end the thread; returns when it has ended.  A later probe starts a new one."""
        with self._lock:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.retire()
        if worker is not None and worker.thread is not threading.current_thread():
            worker.thread.join()

    def _cancel(self, worker: Worker, job: Job) -> None:
        with self._lock:
            # a worker that was let go has finished, or is cancelling, every job it had
            if worker is self._worker:
                worker.cancel(job)

    def _may_end(self, worker: Worker) -> bool:
        with self._lock:
            if worker is not self._worker:
                return False
            if worker.jobs_finished != self._jobs_sent:
                return False
            self._worker = None
            return True

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._worker = None
        self._jobs_sent = 0


_probers: Final[weakref.WeakSet[Prober]] = weakref.WeakSet()
_SHARED: Final = Prober()


def shared_prober() -> Prober:
    """The process's prober: all its scouts share one thread and one bound."""
    return _SHARED


def _after_fork_in_child() -> None:
    for prober in _probers:
        prober._start_empty()


os.register_at_fork(after_in_child=_after_fork_in_child)
