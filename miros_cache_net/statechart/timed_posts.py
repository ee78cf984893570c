"""The delayed and repeated posts of one chart, on the timers of the process.

Separate from `chart`: it needs only a queue, and runs under the timers' lock, where it must not block.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from miros.event import Event

from miros_cache_net.statechart.queue import ChartQueue
from miros_cache_net.statechart.timers import TIMERS, Afterwards, Timer


class TimedPosts:
    """Posts into `queue` when a timer is due; `note` is called with a spy line for each post.

    `note` is called before the event is in the queue, under the timers' lock: it must not block, and returns a
    function for work that may.  All methods may be called from any thread.
    """

    def __init__(self, queue: ChartQueue, note: Callable[[str], Afterwards], queue_flooded: Callable[[], None]) -> None:
        self._queue = queue
        self._note = note
        self._queue_flooded = queue_flooded
        # weak: whoever has a timer may cancel it without this chart's knowledge
        self._timers: WeakKeyDictionary[Timer, str] = WeakKeyDictionary()

    def post(self, e: Event, period_s: float, *, times: int, lifo: bool, always: bool = False) -> Timer:
        """Post `e` every `period_s` seconds, the first time after one period, `times` times in all (0: forever).

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
        """End the posts of `timer`; none follows once this has returned.  Ignores a timer of another chart."""
        if isinstance(timer, Timer) and self._timers.pop(timer, None) is not None:
            timer.cancel()

    def cancel_signal(self, signal_name: str) -> None:
        """End the posts of that signal; none follows once this has returned."""
        for timer in self._all():
            if self._timers.get(timer) == signal_name:
                self.cancel(timer)

    def cancel_all(self) -> None:
        """End all posts; none follows once this has returned."""
        for timer in self._all():
            self.cancel(timer)

    def _all(self) -> list[Timer]:
        # at one moment, while other threads add and remove
        return [timer for ref in self._timers.keyrefs() if (timer := ref()) is not None]

    def __len__(self) -> int:
        return len(self._timers)
