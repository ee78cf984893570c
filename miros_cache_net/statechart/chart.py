"""The base class of every chart: a `miros` `Factory` without its known traps."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from miros.event import Event
from miros.hsm import spy_tuple

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.observe.families import CHART_ERRORS
from miros_cache_net.observe.living import LIVING, ChartFacts
from miros_cache_net.observe.registry import PROCESS
from miros_cache_net.observe.steps import note_sent
from miros_cache_net.payloads import CacheErrorPayload
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.containment import describe
from miros_cache_net.statechart.life import NEW, STOPPED, LivingFactory
from miros_cache_net.statechart.timed_posts import TimedPosts
from miros_cache_net.statechart.timers import Afterwards, Timer

_reporting: Final = threading.local()
_errors: Final = PROCESS.labelled(CHART_ERRORS)
_NO_OTHER_NAMES: Final[Mapping[str, str]] = {}


class Chart(LivingFactory):
    """A statechart in a thread of its own, built as with `miros.Factory`; construction does not start it.

    Its states are the data of its class: `STATES`, a tuple of `State`, with a method ``_<state>_<SIGNAL>`` for each
    event that a state handles.  States that are known only at run time are declared as with `miros.Factory`:
    `self.create(state="a").catch(signal=signals.X, handler=self.h)` and `self.nest("a", parent=None)`.  `catch` takes a
    signal or its name; handlers are bound methods `(e)` or functions `(chart, e)`.

    A handler that raises, returns None or makes a transition that is not in `STATES` is reported (`CACHE_ERROR`, reason
    `handler`), and its event counts as handled.  All methods may be called from any thread.

    clock         for the chart's own time; delayed posts always use the machine's monotonic clock
    signal_names  this chart's names for signals of `STATES`, if only its builder knows them

    A chart built before `fork` raises ChartForked in the child, except from `stop`, the cancel methods and `report`.
    """

    defer_queue: deque[Event]

    def __init__(
        self,
        name: str,
        *,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        clock: Clock = SYSTEM_CLOCK,
        signal_names: Mapping[str, str] = _NO_OTHER_NAMES,
    ) -> None:
        super().__init__(name, signal_names)
        self.clock = clock
        self.live_trace = bool(live_trace)
        self.live_spy = bool(live_spy)
        self.defer_queue = deque()
        self._deferred_flooded = False
        self._posts = TimedPosts(self.queue, self._note_from_outside, self._queue_flooded)
        self._subscriptions: dict[tuple[str, str], None] = {}
        self._last_error = ""
        LIVING.add(self, Chart._facts)

    def _before_start(self) -> None:
        for signal_name, queue_type in list(self._subscriptions):
            fabric.subscribe(self.queue, signal_name, queue_type)

    def _after_stop(self) -> None:
        self._posts.cancel_all()
        for signal_name, queue_type in list(self._subscriptions):
            fabric.unsubscribe(self.queue, signal_name, queue_type)

    # --- posts --------------------------------------------------------------------------------------------------------

    def post_fifo(
        self, e: Event, period: float | None = None, times: int | None = None, deferred: bool | None = None
    ) -> Timer | None:
        """Post `e` behind the waiting events: now, or every `period` seconds, `times` times (None or 0: forever).

        `deferred=False` posts the first one now.  Returns a timer for `cancel_event`; None if no post is to come.
        Beyond limits.CHART_QUEUE_EVENTS `e` is refused, counted in `refused_events` and reported once per flood.
        """
        return self._post(e, period, times, deferred, lifo=False)

    def post_lifo(
        self, e: Event, period: float | None = None, times: int | None = None, deferred: bool | None = None
    ) -> Timer | None:
        """As `post_fifo`, but in front of the waiting events, and never refused."""
        return self._post(e, period, times, deferred, lifo=True)

    def post_always(self, e: Event) -> None:
        """As `post_fifo`, but never refused: for a chart's own events, which are few and must not be lost."""
        self._check(e)
        self.queue.append_always(e)
        note_sent(e.signal_name)
        self._note(f"POST_FIFO:{e.signal_name}")

    def post_later(self, e: Event, delay_s: float, *, always: bool = False) -> Timer:
        """Post `e` once, in `delay_s` seconds; the returned timer's `cancel()` prevents it.  `always`: never refuse."""
        return self._post_timed(e, delay_s, 1, lifo=False, always=always)

    def cancel_event(self, uuid: Any = None) -> None:
        """End the posts of the timer `uuid`; none follows once this has returned."""
        self._posts.cancel(uuid)

    def cancel_events(self, e: Event | int | str) -> None:
        """End all delayed and repeated posts of the signal; none follows once this has returned."""
        self._posts.cancel_signal(fabric.signal_name_of(e))

    def _post(
        self, e: Event, period: float | None, times: int | None, deferred: bool | None, *, lifo: bool
    ) -> Timer | None:
        if period is None:
            self._post_now(e, lifo)
            return None
        times = times or 0
        if deferred is False:
            self._post_now(e, lifo)
            if times == 1:
                return None
            times = max(times - 1, 0)
        return self._post_timed(e, period, times, lifo=lifo)

    def _post_now(self, e: Event, lifo: bool) -> None:
        self._check(e)
        if lifo:
            self.queue.appendleft(e)
        else:
            self.queue.append(e)
        note_sent(e.signal_name)
        self._note(f"POST_{'LIFO' if lifo else 'FIFO'}:{e.signal_name}")

    def _post_timed(self, e: Event, period_s: float, times: int, *, lifo: bool, always: bool = False) -> Timer:
        self._check(e)
        with self._life:
            timer = self._posts.post(e, period_s, times=times, lifo=lifo, always=always)
            if self._phase == STOPPED:
                self._posts.cancel(timer)
        return timer

    def _check(self, e: Event) -> None:
        self._refuse_if_forked()
        if not isinstance(e, Event):
            raise TypeError(f"only a miros Event can be posted, not {type(e).__name__}")

    def defer(self, e: Event) -> None:
        """For handlers: keep `e` for `recall`; beyond limits.CHART_DEFERRED_EVENTS it is refused as by `post_fifo`."""
        if len(self.defer_queue) < limits.CHART_DEFERRED_EVENTS:
            super().defer(e)
            return
        self.queue.count_refused()
        if not self._deferred_flooded:
            self._deferred_flooded = True
            self.report(Reason.OVERFLOW, f"chart {self.name} has deferred {len(self.defer_queue)} events, no more fit")

    def recall(self) -> Event | None:
        """For handlers: post the oldest deferred event again and return it; None if there is none."""
        if not self.defer_queue:
            return None
        e = self.defer_queue.popleft()
        self._deferred_flooded = self._deferred_flooded and len(self.defer_queue) > limits.CHART_DEFERRED_EVENTS // 2
        self._note(f"RECALL:{e.signal_name}")
        if self.instrumented:
            self.rtc.tuples.append(spy_tuple(signal=e.signal_name, recall=True))
        # It was accepted once; a queue that has filled up in the meantime must not lose it now.
        self.queue.append_always(e)
        self._note(f"POST_FIFO:{e.signal_name}")
        return e

    @property
    def refused_events(self) -> int:
        """How many events found no place in the chart's queues."""
        return self.queue.refused

    def _facts(self) -> ChartFacts | None:
        """What `LIVING` lists; from any thread."""
        if not self.running:
            return None
        return ChartFacts(
            name=str(self.name),
            class_name=type(self).__name__,
            process=os.getpid(),
            state=self._state_name(),
            waiting=len(self.queue),
            refused_events=self.refused_events,
            last_error=self._last_error,
        )

    # --- publish and subscribe ----------------------------------------------------------------------------------------

    def publish(self, event: Event, priority: float | None = None) -> None:
        """Pass `event` to all subscribers in the process, first in, first out at equal priority (1: most urgent)."""
        self._refuse_if_forked()
        fabric.publish(event, priority)
        note_sent(event.signal_name)
        shown = fabric.DEFAULT_PRIORITY if priority is None else priority
        self._note(f"PUBLISH:({event.signal_name}, PRIORITY:{shown})")

    def subscribe(self, event_or_signal: Event | int | str, queue_type: str | None = None) -> None:
        """Get the signal's events from now until `stop` or `unsubscribe`, and again after a restart."""
        self._refuse_if_forked()
        key = _subscription(event_or_signal, queue_type)
        with self._life:
            self._subscriptions[key] = None
            if self._phase != STOPPED:
                fabric.subscribe(self.queue, *key)
        self._note("SUBSCRIBING TO:({}, TYPE:{})".format(*key))

    def unsubscribe(self, event_or_signal: Event | int | str, queue_type: str | None = None) -> None:
        """Get no more events of that signal, except those already waiting."""
        self._refuse_if_forked()
        key = _subscription(event_or_signal, queue_type)
        with self._life:
            self._subscriptions.pop(key, None)
            fabric.unsubscribe(self.queue, *key)

    def subscribed(self, event_or_signal: Event | int | str, queue_type: str | None = None) -> bool:
        """Whether this chart has subscribed to the signal."""
        return _subscription(event_or_signal, queue_type) in self._subscriptions

    # --- what went wrong, and what happened ---------------------------------------------------------------------------

    def report(self, reason: Reason, message: str, file_name: str = "", *, exc: BaseException | None = None) -> None:
        """Log, and publish `CACHE_ERROR`.  Never raises.  While a `CACHE_ERROR` is being handled it only logs."""
        # A log handler may call back into this method.
        if getattr(_reporting, "busy", False):
            return
        _reporting.busy = True
        try:
            message = " ".join(message.split())
            self._last_error = message
            with contextlib.suppress(Exception):
                _errors.add(reason.value)
                write = self.log.warning if exc is None else self.log.error
                write("%s: %s", reason.value, message, exc_info=exc)
            if self._handling == CACHE_ERROR and self._in_own_thread():
                return
            with contextlib.suppress(Exception):
                self.publish(event(CACHE_ERROR, CacheErrorPayload(reason, message, file_name, str(self.name))))
        finally:
            _reporting.busy = False

    def register_live_spy_callback(self, live_spy_callback: fabric.LiveCallback) -> None:
        """Have `live_spy_callback(line)` called, on the writer's thread, for each line of the spy."""
        self.live_spy_callback = fabric.on_writer(live_spy_callback, self._live_callback_failed)

    def register_live_trace_callback(self, live_trace_callback: fabric.LiveCallback) -> None:
        """Have `live_trace_callback(line)` called, on the writer's thread, for each line of the trace."""
        self.live_trace_callback = fabric.on_writer(live_trace_callback, self._live_callback_failed)

    def print(self, content: object) -> None:
        """Print on the writer's thread, in order with the live lines."""
        fabric.print_line(content)

    def trace(self) -> str | None:
        """The state transitions so far, one line each; from any thread.  None if instrumentation is off."""
        if not self.instrumented or not self.spied_on:
            return None
        # A copy: the chart's thread keeps adding lines.
        return "\n" + "".join(self.trace_tuple_to_formatted_string(each) for each in list(self.full.trace))

    def _live_callback_failed(self, exc: BaseException) -> None:
        self.report(Reason.HANDLER, f"a live callback of chart {self.name} raised {describe(exc)}", exc=exc)

    def _note(self, line: str) -> None:
        # A line from another thread would be attributed to the event being handled, or vanish with it.
        if self.instrumented and (self._phase == NEW or self._in_own_thread()):
            self.rtc.spy.append(line)

    def _note_from_outside(self, line: str) -> Afterwards:
        if not self.instrumented:
            return None
        self.full.spy.append(line)
        return (lambda: self.live_spy_callback(line)) if self.live_spy else None


def _subscription(event_or_signal: Event | int | str, queue_type: str | None) -> tuple[str, str]:
    if queue_type not in (None, "fifo", "lifo"):
        raise ValueError(f"queue_type must be 'fifo' or 'lifo', not {queue_type!r}")
    return fabric.signal_name_of(event_or_signal), queue_type or "fifo"
