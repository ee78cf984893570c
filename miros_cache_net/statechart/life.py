"""The life of a chart: started, running in a thread of its own, stopped, started again, or cut off by a fork.

`chart` has the methods with which programs post, publish and read; this module has the guarantees beneath them.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TypeVar

from miros.activeobject import FiberThreadEvent
from miros.event import Event
from miros.hsm import HsmWithQueues

from miros_cache_net import limits
from miros_cache_net.errors import ChartError, ChartForked, Reason
from miros_cache_net.logs import chart_log
from miros_cache_net.observe.steps import RECORDER
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.containment import describe
from miros_cache_net.statechart.factory import StatesFactory
from miros_cache_net.statechart.forks import PROCESS
from miros_cache_net.statechart.queue import ChartQueue
from miros_cache_net.statechart.state_method import HIGHEST_INNER
from miros_cache_net.statechart.timers import TIMERS

#: Python 3.12 and later start no threads once the main thread has ended.
_TOO_LATE: Final = (
    "the program is ending (atexit), and Python starts no more threads; start charts earlier, or use `Cache` or "
    "`read_cache`, which need none"
)
NEW: Final = "new"
STARTING: Final = "starting"
RUNNING: Final = "running"
STOPPED: Final = "stopped"

_Living = TypeVar("_Living", bound="LivingFactory")


class LivingFactory(StatesFactory):
    """A factory with a bounded queue and a thread that survives errors: `start_at`, `stop`, `running`."""

    thread: threading.Thread | None

    def __init__(self, name: str, signal_names: Mapping[str, str]) -> None:
        super().__init__(name, signal_names)
        self.queue = self.locking_deque = ChartQueue(
            limits.CHART_QUEUE_EVENTS, self._queue_flooded, self._came_late, self._replaces_all
        )
        self._generation = PROCESS.generation
        self._phase = NEW
        # Guards the phase and what must agree with it; never held while waiting for a thread.
        self._life = threading.RLock()
        self._one_start = threading.Lock()
        #: The id of the thread that is entering the first state.
        self._starter: int | None = None
        #: The signal that is being handled.
        self._handling = ""
        self._steps = RECORDER.ring(self)

    @functools.cached_property
    def log(self) -> logging.Logger:
        """The logger for the chart's errors, below that of its class's room."""
        return chart_log(type(self), str(self.name))

    @property
    def running(self) -> bool:
        """Started and not stopped."""
        return self._phase == RUNNING and not self._forked

    def start_at(self, initial_state: Any = None) -> None:
        """Enter `initial_state` (a state method or a name; None: the first of `STATES`), then run in a thread.

        The calling thread enters the state.
        After `stop` it starts afresh: with its subscriptions, but without the events that were waiting.  Raises
        ChartError if it runs already or one of its own handlers makes the call.
        """
        self._refuse_if_forked()
        method = self.state_method(self.STATES[0].name if initial_state is None and self.STATES else initial_state)
        if self._in_own_thread():
            raise ChartError(f"chart {self.name} cannot be started by its own handler; let another thread do it")
        with self._one_start:
            self._prepare_start()
            self._starter = threading.get_ident()
            try:
                self._steps.begin()
                HsmWithQueues.start_at(self, method)
                self._steps.end("start_at", "top", self._state_name(), self.rtc.spy)
                self._launch()
            except BaseException as error:
                self.stop()
                if isinstance(error, RuntimeError) and "interpreter shutdown" in str(error):
                    raise ChartError(f"chart {self.name} cannot start: {_TOO_LATE}") from error
                raise
            finally:
                self._starter = None

    def _prepare_start(self) -> None:
        with self._life:
            if self._phase in (STARTING, RUNNING):
                raise ChartError(f"chart {self.name} is running already; stop() it before it is started again")
            again = self._phase == STOPPED
            self._phase = STARTING
            thread = self.thread
        if thread is not None:
            thread.join()
        if again:
            # miros looks for the first line of a trace at the front of these.
            self.rtc.spy.clear()
            self.rtc.tuples.clear()
        with self._life:
            self.queue.reopen()
            self._before_start()

    def _launch(self) -> None:
        TIMERS.ensure_thread()
        fabric.ensure_fabric()
        fabric.ensure_writer()
        with self._life:
            if self._phase != STARTING:
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
            self._phase = RUNNING

    def stop(self) -> None:
        """End the chart's thread, timers and subscriptions, and discard the waiting events.

        Callable at any time, any number of times, from any thread.  Returns once the running handler is done, unless
        that handler makes the call.  No exit handler runs.  Later posts are ignored.
        """
        if self._forked:
            return
        with self._life:
            self._phase = STOPPED
            self.queue.close()
            self.activeobject_task_event.clear()
            self._after_stop()
            thread = self.thread
        self.queue.wake()
        if not self._in_own_thread():
            # Another thread may be entering the first state; wait for it.  It will not launch a thread any more.
            with self._one_start:
                pass
            if thread is not None:
                thread.join()
        with self._life:
            if self._phase == STOPPED:
                self.queue.clear()
                self.defer_queue.clear()

    def __enter__(self: _Living) -> _Living:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.stop()

    def run_event(self, task_event: threading.Event, fabric_task_event: threading.Event, queue: ChartQueue) -> None:
        """The chart's thread: sleeps until a post; only `stop` ends it, not an event or a stopped fabric."""
        while task_event.is_set() and not self._forked:
            queue.wait()
            if task_event.is_set() and len(queue):
                self._run_to_completion()

    def _run_to_completion(self) -> None:
        before = self._state_name()
        self._steps.begin()
        try:
            self.next_rtc()
        except BaseException as exc:
            # Each handler is contained, so the error is in the processor itself or in a state without a blueprint.
            self.temp.fun = self.state.fun
            what = f"broke the event processor: {describe(exc)}"
            self._handler_failed(self.state.fun.__name__, self._handling, what, exc)
        finally:
            self._steps.end(self._handling, before, self._state_name(), self.rtc.spy)
            self._handling = ""

    def dispatch(self, e: Event) -> None:
        # miros would treat it as one of its own calls.
        if e.signal <= HIGHEST_INNER:
            self.log.warning("ignored %s: not a signal for charts", e.signal_name)
            return
        self._handling = e.signal_name
        self._steps.carries(e.payload)
        super().dispatch(e)

    def _state_name(self) -> str:
        """The innermost state that it is in; from any thread."""
        state = self.state.fun
        return "" if state is None else str(getattr(state, "__name__", ""))

    def _queue_flooded(self) -> None:
        """Called once per flood, on the thread whose post was refused first."""
        message = f"chart {self.name} is {len(self.queue)} events behind and refuses more"
        self.report(Reason.OVERFLOW, f"{message}; post less, or handle them faster")

    def _replaces_all(self, e: Event) -> bool:
        """Whether `e` makes earlier events of its kind moot; called on a poster's thread if the queue is full.

        The newest such event gets a place in a full queue, in exchange for an older one.  Must not raise.
        """
        return False

    def _came_late(self, item: Any) -> None:
        self.log.debug("stopped; ignored %s", getattr(item, "signal_name", type(item).__name__))

    def _handler_failed(self, state_name: str, signal_name: str, what: str, exc: BaseException | None = None) -> None:
        """Report a handler's error; called while its event is handled."""
        message = f"chart {self.name}: the handler of {signal_name} in state {state_name} {what}"
        self.report(Reason.HANDLER, message, exc=exc)

    def _before_start(self) -> None:
        """Called before the first state is entered."""

    def _after_stop(self) -> None:
        """Called once the chart accepts no more events; its thread may still be running a handler."""

    def _in_own_thread(self) -> bool:
        return threading.current_thread() is self.thread or self._starter == threading.get_ident()

    @property
    def _forked(self) -> bool:
        return self._generation != PROCESS.generation

    def _refuse_if_forked(self) -> None:
        if self._forked:
            raise ChartForked(
                f"chart {self.name} was built before the fork and its thread is not in this process; "
                "build a new one in the child"
            )
