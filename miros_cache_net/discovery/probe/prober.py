"""Probes check addresses for a RabbitMQ that this program may use: any number at once, on one thread.

Except for the challenge and its answer queue, a probe publishes and declares nothing.  It sends a password only to a
server that greets as RabbitMQ and either is in a trusted network or has proved its identity over TLS.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final

from miros_cache_net import limits
from miros_cache_net.discovery.probe.resolve import LookUp, look_up_name
from miros_cache_net.discovery.probe.verdict import ProbeResult, ProbeTarget, Verdict
from miros_cache_net.discovery.probe.worker import Done, Job, Worker

__all__ = ["ProbeHandle", "ProbeResult", "ProbeTarget", "Prober", "Verdict", "shared_prober"]


class ProbeHandle:
    """One probe under way."""

    def __init__(self, prober: Prober, worker: Worker | None, job: Job) -> None:
        self._prober = prober
        self._worker = worker
        self._job = job

    def cancel(self) -> None:
        """Cancel the probe: `done` gets `Verdict.CANCELLED`, unless its result is already on the way.

        Callable from any thread, any number of times.  In a forked child it does nothing.
        """
        self._prober._cancel(self._worker, self._job)


class Prober:
    """Runs probes on one thread, which starts with the first probe and ends after `idle_s` seconds without one.

    Up to `at_once` probes run at the same time; the others wait in FIFO order.  `look_up` resolves names.  All methods
    are thread-safe.  In a forked child the prober starts empty: the parent's probes are answered only in the parent.
    """

    def __init__(
        self,
        *,
        at_once: int = limits.SCOUTS_AT_ONCE,
        idle_s: float = limits.PROBER_IDLE_S,
        look_up: LookUp = look_up_name,
    ) -> None:
        self._at_once = at_once
        self._idle_s = idle_s
        self._look_up = look_up
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._jobs_sent = 0
        _probers.add(self)

    def probe(self, target: ProbeTarget, done: Done) -> ProbeHandle:
        """Probe `target`; `done` gets the result once, on the prober's thread, and must return quickly.

        If no thread or descriptor is available, `done` gets that as the result, in the caller's thread, before this
        returns.
        """
        job = Job(target, done)
        with self._lock:
            try:
                worker = self._begun_worker()
            except (OSError, RuntimeError) as error:
                refusal: Exception = error
            else:
                self._jobs_sent += 1
                worker.send(job)
                return ProbeHandle(self, worker, job)
        host, port = target.address.host, target.address.port
        words = (
            f"this process cannot look ({refusal}): close files or end threads, or raise `ulimit -n` and `ulimit -u`"
        )
        done(ProbeResult(host, port, Verdict.NO_ROUTE, words))
        return ProbeHandle(self, None, job)

    def close(self) -> None:
        """Cancel all probes and end the thread; returns when it has ended.  A later probe starts a new thread."""
        with self._lock:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.retire()
        if worker is not None and worker.thread is not threading.current_thread():
            worker.thread.join()

    def _begun_worker(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(self._at_once, self._idle_s, self._look_up, self._may_end)
            self._jobs_sent = 0
        return self._worker

    def _cancel(self, worker: Worker | None, job: Job) -> None:
        with self._lock:
            # A released worker has finished all its jobs, or is cancelling them.
            if worker is not None and worker is self._worker:
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
    """The process's shared prober: all its scouts share one thread and one bound."""
    return _SHARED


def _after_fork_in_child() -> None:
    for prober in _probers:
        prober._start_empty()


os.register_at_fork(after_in_child=_after_fork_in_child)
