"""One thread for all delayed and repeated events of a process: a heap of due times.

`miros` starts one thread per event, which a cancel does not interrupt; a heap is 100x cheaper.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from miros_cache_net.statechart.forks import in_child

THREAD_NAME: Final = "miros_cache_net timers"

#: The result of a fire function: work to do after the timers' lock is released.
Afterwards = Callable[[], None] | None

#: Condition.wait accepts at most threading.TIMEOUT_MAX; one needless wake-up an hour costs nothing.
_LONGEST_WAIT_S: Final = 3600.0
#: Cancelled timers stay in the heap until due; beyond this many, and half of the heap, it is rebuilt.
_CANCELLED_KEPT: Final = 256


class Timer:
    """One scheduled call, or a series of them.  Made by `Timers.schedule`."""

    __slots__ = ("__weakref__", "_fire", "_home", "_left", "_period_s", "_timers", "due_s", "live")

    def __init__(
        self, timers: Timers, fire: Callable[[Timer], Afterwards], due_s: float, period_s: float, times: int
    ) -> None:
        self._timers = timers
        # The condition of the heap that contains it; a forked child has another.
        self._home: threading.Condition | None = None
        self._fire = fire
        self._period_s = period_s
        self._left = times
        self.due_s = due_s
        #: False once it was cancelled or has fired for the last time.
        self.live = True

    def put_off(self, now_s: float) -> None:
        """Make it due one period later; missed repetitions (a suspended machine) are skipped."""
        self.due_s += self._period_s
        if self.due_s < now_s:
            self.due_s = now_s + self._period_s

    def cancel(self) -> None:
        """Prevent any further firing: none follows once this has returned.  From any thread, any number of times."""
        self._timers._cancel(self)


class Timers:
    """A heap of timers and the thread that fires them; it starts with the first timer and sleeps without any."""

    def __init__(self) -> None:
        self._turns = itertools.count()
        self._reset()

    def _reset(self) -> None:
        # A condition's lock is re-entrant: a fire function may schedule and cancel.
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._thread: threading.Thread | None = None

    def schedule(
        self, delay_s: float, fire: Callable[[Timer], Afterwards], *, period_s: float = 0.0, times: int = 1
    ) -> Timer:
        """Call `fire(timer)` after `delay_s` seconds, then every `period_s`, `times` times in all (0: forever).

        `fire` runs on the timers' thread under their lock, so it must not block; it returns work that may block, which
        is called once the lock is free.  Missed repetitions (a suspended machine) are skipped.

        Raises ValueError for a delay that is negative or not finite, or for endless repetition without a period.
        """
        for seconds in (delay_s, period_s):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"a delay must be a finite number of seconds, not {seconds!r}")
        if times < 0 or (times == 0 and period_s <= 0):
            raise ValueError("endless repetition needs a period above 0 seconds")
        with self._changed:
            self._ensure_thread()
            timer = Timer(self, fire, time.monotonic() + delay_s, period_s, times)
            self._push(timer)
            if self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def ensure_thread(self) -> None:
        """Start the timers' thread while that is possible; it is not once the program is ending."""
        with self._changed:
            self._ensure_thread()

    def __len__(self) -> int:
        """The number of timers still to fire."""
        return len(self._heap) - self._cancelled

    def _push(self, timer: Timer) -> None:
        timer._home = self._changed
        heapq.heappush(self._heap, (timer.due_s, next(self._turns), timer))

    def _cancel(self, timer: Timer) -> None:
        with self._changed:
            if not timer.live:
                return
            timer.live = False
            # it may stay in the heap for hours, and must not keep what it was to post
            timer._fire = _fires_no_more
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
                # One timer per lock acquisition, so that a cancel can get in between timers that are due together.
                with self._changed:
                    afterwards = self._fire(self._next_due())
                if afterwards is not None:
                    afterwards()
            except BaseException:
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
                timer.put_off(time.monotonic())
                self._push(timer)


def _fires_no_more(_timer: Timer) -> None:
    return None


#: The timers of this process.
TIMERS: Final = Timers()

in_child(TIMERS._reset)
