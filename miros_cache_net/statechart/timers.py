"""One thread for all delayed and repeated events of a process: a heap of due times.

`miros` starts a thread for each of them, which a cancel does not interrupt; a heap is 100x cheaper.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from miros_cache_net.statechart.forks import in_child

THREAD_NAME: Final = "miros_cache_net timers"

#: What a fire function hands back: work to be done after the timers' lock is released.
Afterwards = Callable[[], None] | None

#: Condition.wait takes no longer than threading.TIMEOUT_MAX; waking once an hour for nothing is free.
_LONGEST_WAIT_S: Final = 3600.0
#: Cancelled timers stay in the heap until due; beyond this many, and half of the heap, it is rebuilt.
_CANCELLED_KEPT: Final = 256


class Timer:
    """One scheduled call, or a row of them.  Made by `Timers.schedule`."""

    __slots__ = ("_fire", "_home", "_left", "_period_s", "_timers", "due_s", "live")

    def __init__(
        self, timers: Timers, fire: Callable[[Timer], Afterwards], due_s: float, period_s: float, times: int
    ) -> None:
        self._timers = timers
        # The condition of the heap it lies in; a forked child has another.
        self._home: threading.Condition | None = None
        self._fire = fire
        self._period_s = period_s
        self._left = times
        self.due_s = due_s
        #: False once it was cancelled or has fired for the last time.
        self.live = True

    def cancel(self) -> None:
        """When this returns, it will not fire (again).  From any thread, as often as you like."""
        self._timers._cancel(self)


class Timers:
    """A heap of timers and the thread that fires them; the thread starts with the first and sleeps without any."""

    def __init__(self) -> None:
        self._turns = itertools.count()
        self._reset()

    def _reset(self) -> None:
        # A condition's lock is re-entrant: what fires may schedule and cancel.
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._thread: threading.Thread | None = None

    def schedule(
        self, delay_s: float, fire: Callable[[Timer], Afterwards], *, period_s: float = 0.0, times: int = 1
    ) -> Timer:
        """Call `fire(timer)` after `delay_s` seconds, then every `period_s`, `times` times in all (0: for ever).

        `fire` runs on the timers' thread under their lock, so it must not block; what may block it returns,
        to be called once the lock is free.  Repetitions that were missed (a suspended machine) are not made up.

        Raises ValueError for a delay that is negative or not finite, or endless repetition without a period.
        """
        for seconds in (delay_s, period_s):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"a delay must be a finite number of seconds, not {seconds!r}")
        if times < 0 or (times == 0 and period_s <= 0):
            raise ValueError("repeating for ever needs a period above 0 seconds")
        with self._changed:
            self._ensure_thread()
            timer = Timer(self, fire, time.monotonic() + delay_s, period_s, times)
            self._push(timer)
            if self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def __len__(self) -> int:
        """Timers still to fire."""
        return len(self._heap) - self._cancelled

    def _push(self, timer: Timer) -> None:
        timer._home = self._changed
        heapq.heappush(self._heap, (timer.due_s, next(self._turns), timer))

    def _cancel(self, timer: Timer) -> None:
        with self._changed:
            if not timer.live:
                return
            timer.live = False
            if timer._home is not self._changed:
                return
            self._cancelled += 1
            if self._cancelled > _CANCELLED_KEPT and self._cancelled > len(self._heap) // 2:
                self._heap = [entry for entry in self._heap if entry[2].live]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            try:
                # One timer for each turn with the lock, so that a cancel gets in between those due at once.
                with self._changed:
                    afterwards = self._fire(self._next_due())
                if afterwards is not None:
                    afterwards()
            except BaseException:
                import logging

                logging.getLogger(__name__).exception("a timer's call failed; the other timers go on")

    def _next_due(self) -> Timer:
        while True:
            wait_s: float | None = None
            if self._heap:
                wait_s = min(self._heap[0][0] - time.monotonic(), _LONGEST_WAIT_S)
                if wait_s <= 0:
                    timer = heapq.heappop(self._heap)[2]
                    timer._home = None
                    if timer.live:
                        return timer
                    self._cancelled -= 1
                    continue
            self._changed.wait(wait_s)

    def _fire(self, timer: Timer) -> Afterwards:
        timer._left -= 1
        if timer._left == 0:
            timer.live = False
        try:
            return timer._fire(timer)
        finally:
            if timer.live:
                timer.due_s += timer._period_s
                now = time.monotonic()
                if timer.due_s < now:
                    timer.due_s = now + timer._period_s
                self._push(timer)


#: The timers of this process.
TIMERS: Final = Timers()

in_child(TIMERS._reset)
