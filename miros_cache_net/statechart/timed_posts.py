"""The delayed and repeated posts of one chart, over the timers of the process."""

from __future__ import annotations

from collections.abc import Callable

from miros.event import Event

from miros_cache_net.statechart.queue import ChartQueue
from miros_cache_net.statechart.timers import TIMERS, Afterwards, Timer


class TimedPosts:
    """Posts into `queue` when time has come; `note` is told each of them as a line for the spy.

    `note` is called before the event is in the queue, under the timers' lock: it must not block, and what may
    block it returns.  All methods may be called from any thread.
    """

    def __init__(self, queue: ChartQueue, note: Callable[[str], Afterwards], queue_flooded: Callable[[], None]) -> None:
        self._queue = queue
        self._note = note
        self._queue_flooded = queue_flooded
        self._timers: dict[Timer, str] = {}

    def post(self, e: Event, period_s: float, *, times: int, lifo: bool, always: bool = False) -> Timer:
        """Post `e` every `period_s` seconds, the first time after that long, `times` times in all (0: for ever).

        Raises ValueError as `Timers.schedule` does.
        """
        kind = "LIFO" if lifo else "FIFO"

        def fire(timer: Timer) -> Afterwards:
            afterwards = self._note(f"POST_{kind}:{e.signal_name}")
            if lifo:
                self._queue.appendleft(e)
            elif always:
                self._queue.append_always(e)
            elif self._queue.offer(e):
                afterwards = self._queue_flooded
            if not timer.live:
                self._timers.pop(timer, None)
            return afterwards

        timer = TIMERS.schedule(period_s, fire, period_s=period_s, times=times)
        self._timers[timer] = e.signal_name
        if not timer.live:
            self._timers.pop(timer, None)
        return timer

    def cancel(self, timer: object) -> None:
        """When this returns, that timer posts no more; nothing happens if it is none of this chart's."""
        if isinstance(timer, Timer) and self._timers.pop(timer, None) is not None:
            timer.cancel()

    def cancel_signal(self, signal_name: str) -> None:
        """When this returns, no event of that signal is posted any more."""
        for timer, name in list(self._timers.items()):
            if name == signal_name:
                self.cancel(timer)

    def cancel_all(self) -> None:
        """When this returns, nothing is posted any more."""
        for timer in list(self._timers):
            self.cancel(timer)

    def __len__(self) -> int:
        return len(self._timers)
