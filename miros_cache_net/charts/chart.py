"""The base of every chart here: a `miros` `Factory` whose known traps are solved once, in one place."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from typing import Any, Final

from miros.activeobject import FiberThreadEvent
from miros.event import Event, signals
from miros.hsm import Attribute, HsmWithQueues, spy_tuple

from miros_cache_net import limits
from miros_cache_net.charts import fabric
from miros_cache_net.charts.containment import Handler, contained, describe
from miros_cache_net.charts.live import LiveFactory
from miros_cache_net.charts.queue import ChartQueue
from miros_cache_net.charts.timed_posts import TimedPosts
from miros_cache_net.charts.timers import Afterwards, Timer
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import ChartError, ChartForked, Reason
from miros_cache_net.events import CACHE_ERROR, event
from miros_cache_net.payloads import CacheErrorPayload

_NEW: Final = "new"
_STARTING: Final = "starting"
_RUNNING: Final = "running"
_STOPPED: Final = "stopped"

#: Signals of miros' own machinery: as events from outside they would be taken for its own calls.
_INNER: Final = frozenset(range(signals.highest_inner_signal + 1))
_reporting: Final = threading.local()


class _States(Attribute):  # type: ignore[misc]
    """`miros` keeps the current state in `chart.state.fun`; called, the same object declares a state."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart

    def __call__(self, name: str, parent: Any = None, **handlers: Handler) -> Any:
        blueprint = self._chart.create(state=name)
        for signal_name, handler in handlers.items():
            blueprint.catch(signal=signal_name, handler=handler)
        self._chart.nest(name, parent=parent)
        return blueprint.to_method()


class Chart(LiveFactory):
    """A statechart in a thread of its own, built as with `miros.Factory`; construction does not start it.

    States: `self.create(state="a").catch(signal=signals.X, handler=self.h).to_method()` and
    `self.nest(a, parent=None)`, or in one call `self.state("a", parent=None, X=self.h)`.  `catch` takes a signal or its
    name; handlers are bound methods `(e)` or functions `(chart, e)`.

    A handler that raises or returns None is reported (`CACHE_ERROR`, reason `handler`), and its event counts as
    handled.  All methods may be called from any thread.  `clock` is for the chart's own reckoning; delayed
    posts always run on the machine's monotonic clock.

    A chart built before `fork` raises ChartForked in the child, except from `stop`, the cancels and `report`.
    """

    thread: threading.Thread | None
    defer_queue: deque[Event]

    def __init__(
        self, name: str, *, live_trace: bool | None = None, live_spy: bool | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        super().__init__(name)
        self.clock = clock
        self.log = logging.getLogger(f"miros_cache_net.{name}")
        self.live_trace = bool(live_trace)
        self.live_spy = bool(live_spy)
        self.state = _States(self)
        self.queue = self.locking_deque = ChartQueue(limits.CHART_QUEUE_EVENTS, self._queue_flooded, self.log)
        self.defer_queue = deque()
        self._deferred_flooded = False
        self._posts = TimedPosts(self.queue, self._note_from_outside, self._queue_flooded)
        self._subscriptions: dict[tuple[str, str], None] = {}
        self._generation = fabric.generation()
        self._phase = _NEW
        # Guards the phase and what must agree with it; never held while waiting for a thread.
        self._life = threading.RLock()
        self._starting = threading.Lock()
        self._rtc_thread: int | None = None
        self._handling = ""

    # --- building -----------------------------------------------------------------------------------------------------

    def create(self, state: str | None = None) -> Any:
        """A new state's blueprint; its parent is the top until `nest` says otherwise."""
        blueprint = super().create(state=state)
        self.register_parent(blueprint.state_method, self.top)
        return blueprint

    def nest(self, state: Any, parent: Any) -> Chart:
        """Put `state` inside `parent` (None: the top); both are state methods or names."""
        super().nest(self._state_method(state), None if parent is None else self._state_method(parent))
        return self

    def trans(self, fn: Any) -> Any:
        """For handlers: `return self.trans(state)`, a state method or a name."""
        return super().trans(self._state_method(fn))

    def register_signal_callback(self, state_method: Any, signal: int | str, fn: Handler) -> None:
        number = fabric.signal_number_of(signal) if isinstance(signal, str) else signal
        super().register_signal_callback(state_method, number, contained(fn, state_method.__name__))

    def _state_method(self, state: Any) -> Any:
        if isinstance(state, str) and state in self.states:
            return self.states[state].state_method
        if not callable(state):
            raise ChartError(f"chart {self.name} has no state {state!r}; create(state=...) it first")
        return state

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Started and not stopped."""
        return self._phase == _RUNNING and not self._forked

    def start_at(self, initial_state: Any) -> None:
        """Enter `initial_state` (a state method or a name) in the calling thread, then run in one's own.

        After `stop` it starts afresh: with its subscriptions, without what was waiting.  Raises ChartError if it
        runs already or the call comes from one of its own handlers.
        """
        self._refuse_if_forked()
        method = self._state_method(initial_state)
        if self._rtc_thread == threading.get_ident():
            raise ChartError(f"chart {self.name} cannot be started by its own handler; let another thread do it")
        with self._starting:
            self._begin_start()
            try:
                self._rtc_thread = threading.get_ident()
                HsmWithQueues.start_at(self, method)
                self._launch()
            except BaseException:
                self.stop()
                raise
            finally:
                if self._phase != _RUNNING:
                    self._rtc_thread = None

    def _begin_start(self) -> None:
        with self._life:
            if self._phase in (_STARTING, _RUNNING):
                raise ChartError(f"chart {self.name} is running already; stop() it before it is started again")
            again = self._phase == _STOPPED
            self._phase = _STARTING
            thread = self.thread
        if thread is not None:
            thread.join()
        if not hasattr(self, "_lookup"):
            self._lookup: dict[str, Any] = {}
        if again:
            self.rtc.spy.clear()
            self.rtc.tuples.clear()
        with self._life:
            self.queue.reopen()
            for signal_name, queue_type in self._subscriptions:
                fabric.subscribe(self.queue, signal_name, queue_type)

    def _launch(self) -> None:
        fabric.ensure_fabric()
        fabric.ensure_writer()
        with self._life:
            if self._phase != _STARTING:
                return
            self.activeobject_task_event = threading.Event()
            self.activeobject_task_event.set()
            self.fabric_task_event = FiberThreadEvent()
            arguments = (self.activeobject_task_event, self.fabric_task_event, self.queue)
            self.thread = threading.Thread(target=self.run_event, args=arguments, name=self.name, daemon=True)
            try:
                self.thread.start()
            except BaseException:
                self.thread = None
                raise
            self._phase = _RUNNING

    def stop(self) -> None:
        """End the chart's thread, its timers and subscriptions, and forget what waits.

        Any time, any number of times, from any thread; returns when the handler at work is done, except from that
        handler itself.  No exit handler runs.  What is posted afterwards is ignored.
        """
        if self._forked:
            return
        with self._life:
            self._phase = _STOPPED
            self.queue.close()
            self.activeobject_task_event.clear()
            self._posts.cancel_all()
            for signal_name, queue_type in self._subscriptions:
                fabric.unsubscribe(self.queue, signal_name, queue_type)
            thread = self.thread
        self.queue.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._life:
            if self._phase == _STOPPED:
                self.queue.clear()
                self.defer_queue.clear()

    def run_event(self, task_event: threading.Event, fabric_task_event: threading.Event, queue: ChartQueue) -> None:
        """The chart's thread: sleeps until something is posted; only `stop` ends it, no event and no stopped fabric."""
        self._rtc_thread = threading.get_ident()
        while task_event.is_set() and not self._forked:
            queue.wait()
            if task_event.is_set() and len(queue):
                self._run_to_completion(queue)
        # The number of an ended thread is given out again.
        self._rtc_thread = None

    def _run_to_completion(self, queue: ChartQueue) -> None:
        e = queue.deque[0]
        if not _is_for_charts(e):
            queue.popleft()
            self.log.warning("ignored %s: not an event for charts", getattr(e, "signal_name", type(e).__name__))
            return
        self._handling = e.signal_name
        try:
            self.next_rtc()
        except BaseException as exc:
            self.temp.fun = self.state.fun
            self.handler_failed(self.state.fun.__name__, e, f"broke the event processor: {describe(exc)}", exc)
        finally:
            self._handling = ""

    @property
    def _forked(self) -> bool:
        return self._generation != fabric.generation()

    def _refuse_if_forked(self) -> None:
        if self._forked:
            raise ChartForked(
                f"chart {self.name} was built before the fork and its thread is not in this process; "
                "build a new one in the child"
            )

    # --- posts --------------------------------------------------------------------------------------------------------

    def post_fifo(
        self, e: Event, period: float | None = None, times: int | None = None, deferred: bool | None = None
    ) -> Timer | None:
        """Post `e` behind what waits: now, or every `period` seconds, `times` times (None or 0: for ever).

        `deferred=False` posts the first one now.  Returns what `cancel_event` takes; None if posted at once.
        """
        return self._post(e, period, times, deferred, lifo=False)

    def post_lifo(
        self, e: Event, period: float | None = None, times: int | None = None, deferred: bool | None = None
    ) -> Timer | None:
        """As `post_fifo`, in front of what waits, and never refused by a full queue."""
        return self._post(e, period, times, deferred, lifo=True)

    def post_later(self, e: Event, delay_s: float) -> Timer:
        """Post `e` once, in `delay_s` seconds; `cancel()` on what is returned prevents it."""
        return self._post_timed(e, delay_s, delay_s, 1, lifo=False)

    def cancel_event(self, uuid: Any = None) -> None:
        """When this returns, the posts with that id have ended."""
        if not self._forked:
            self._posts.cancel(uuid)

    def cancel_events(self, e: Event | int | str) -> None:
        """When this returns, all delayed and repeated posts of the signal have ended."""
        if not self._forked:
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
        return self._post_timed(e, period, period, times, lifo=lifo)

    def _post_now(self, e: Event, lifo: bool) -> None:
        self._check(e)
        if lifo:
            self.queue.appendleft(e)
        else:
            self.queue.append(e)
        self._note(f"POST_{'LIFO' if lifo else 'FIFO'}:{e.signal_name}")

    def _post_timed(self, e: Event, delay_s: float, period_s: float, times: int, *, lifo: bool) -> Timer:
        self._check(e)
        with self._life:
            timer = self._posts.post(e, delay_s, period_s=period_s, times=times, lifo=lifo)
            if self._phase == _STOPPED:
                self._posts.cancel(timer)
        return timer

    def _check(self, e: Event) -> None:
        self._refuse_if_forked()
        if not isinstance(e, Event):
            raise TypeError(f"only a miros Event can be posted, not {type(e).__name__}")

    def defer(self, e: Event) -> None:
        """For handlers: keep `e` for `recall`; what does not fit is reported, not lost in silence."""
        if len(self.defer_queue) < limits.CHART_DEFERRED_EVENTS:
            super().defer(e)
            return
        self.queue.count_refused()
        if not self._deferred_flooded:
            self._deferred_flooded = True
            self.report(Reason.OVERFLOW, f"chart {self.name} defers {len(self.defer_queue)} events and refuses more")

    def recall(self) -> Event | None:
        """For handlers: post the longest deferred event again; None if there is none."""
        if not self.defer_queue:
            return None
        e = self.defer_queue.popleft()
        self._deferred_flooded = self._deferred_flooded and len(self.defer_queue) > limits.CHART_DEFERRED_EVENTS // 2
        self._note(f"RECALL:{e.signal_name}")
        if self.instrumented:
            self.rtc.tuples.append(spy_tuple(signal=e.signal_name, recall=True))
        self.queue.append_always(e)
        self._note(f"POST_FIFO:{e.signal_name}")
        return e

    @property
    def refused_events(self) -> int:
        """How many events the full queues have refused."""
        return self.queue.refused

    def _queue_flooded(self) -> None:
        self.report(
            Reason.OVERFLOW,
            f"chart {self.name} is {len(self.queue)} events behind and refuses more; post less, or handle them faster",
        )

    # --- publish and subscribe ----------------------------------------------------------------------------------------

    def publish(self, event: Event, priority: float | None = None) -> None:
        """Hand `event` to all subscribers in the process, first in first out at equal priority (1: most urgent)."""
        self._refuse_if_forked()
        fabric.publish(event, priority)
        self._note(f"PUBLISH:({event.signal_name}, PRIORITY:{priority or fabric.DEFAULT_PRIORITY})")

    def subscribe(self, event_or_signal: Event | int | str, queue_type: str | None = None) -> None:
        """From now until `stop` or `unsubscribe`, and again after a restart, get what is published of the signal."""
        self._refuse_if_forked()
        key = fabric.signal_name_of(event_or_signal), queue_type or "fifo"
        with self._life:
            self._subscriptions[key] = None
            if self._phase != _STOPPED:
                fabric.subscribe(self.queue, *key)
        self._note("SUBSCRIBING TO:({}, TYPE:{})".format(*key))

    def unsubscribe(self, event_or_signal: Event | int | str, queue_type: str | None = None) -> None:
        """Get no more of that signal than what is waiting already."""
        self._refuse_if_forked()
        key = fabric.signal_name_of(event_or_signal), queue_type or "fifo"
        with self._life:
            self._subscriptions.pop(key, None)
            fabric.unsubscribe(self.queue, *key)

    def subscribed(self, event_or_signal: Event | int | str, queue_type: str | None = None) -> bool:
        """Whether this very chart has subscribed to the signal."""
        return (fabric.signal_name_of(event_or_signal), queue_type or "fifo") in self._subscriptions

    # --- what went wrong, and what happened ---------------------------------------------------------------------------

    def report(self, reason: Reason, message: str, file_name: str = "", *, exc: BaseException | None = None) -> None:
        """Log, and publish `CACHE_ERROR`.  Never raises.  While a `CACHE_ERROR` is handled it only logs."""
        if getattr(_reporting, "busy", False):
            return
        _reporting.busy = True
        try:
            message = " ".join(message.split())
            with contextlib.suppress(Exception):
                level = logging.WARNING if exc is None else logging.ERROR
                self.log.log(level, "%s: %s", reason.value, message, exc_info=exc)
            if self._handling == CACHE_ERROR and self._rtc_thread == threading.get_ident():
                return
            with contextlib.suppress(Exception):
                self.publish(event(CACHE_ERROR, CacheErrorPayload(reason, message, file_name, str(self.name))))
        finally:
            _reporting.busy = False

    def handler_failed(self, state_name: str, e: Event, what: str, exc: BaseException | None = None) -> None:
        """Report a handler's mistake."""
        message = f"chart {self.name}: the handler of {e.signal_name} in state {state_name} {what}"
        self.report(Reason.HANDLER, message, exc=exc)

    def _note(self, line: str) -> None:
        # Lines of other threads would land in whatever event is being handled, or vanish with it.
        if self.instrumented and (self._phase == _NEW or self._rtc_thread == threading.get_ident()):
            self.rtc.spy.append(line)

    def _note_from_outside(self, line: str) -> Afterwards:
        if not self.instrumented:
            return None
        self.full.spy.append(line)
        return (lambda: self.live_spy_callback(line)) if self.live_spy else None


def _is_for_charts(e: Any) -> bool:
    return isinstance(e, Event) and e.signal not in _INNER
