"""The life of a chart: started, running in a thread of its own, stopped, started again, or cut off by a fork."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from miros.activeobject import FiberThreadEvent
from miros.event import Event
from miros.hsm import HsmWithQueues

from miros_cache_net import limits
from miros_cache_net.errors import ChartError, ChartForked, Reason
from miros_cache_net.statechart import fabric
from miros_cache_net.statechart.containment import describe
from miros_cache_net.statechart.factory import StatesFactory
from miros_cache_net.statechart.forks import PROCESS
from miros_cache_net.statechart.queue import ChartQueue
from miros_cache_net.statechart.state_method import HIGHEST_INNER

NEW: Final = "new"
STARTING: Final = "starting"
RUNNING: Final = "running"
STOPPED: Final = "stopped"


class LivingFactory(StatesFactory):
    """A factory with a queue that holds and a thread that lasts: `start_at`, `stop`, `running`."""

    thread: threading.Thread | None

    def __init__(self, name: str, signal_names: Mapping[str, str]) -> None:
        super().__init__(name, signal_names)
        self.queue = self.locking_deque = ChartQueue(
            limits.CHART_QUEUE_EVENTS, self.queue_flooded, self._came_late, self.replaces_all
        )
        self._generation = PROCESS.generation
        self._phase = NEW
        # Guards the phase and what must agree with it; never held while waiting for a thread.
        self._life = threading.RLock()
        self._one_start = threading.Lock()
        #: The thread that enters the first state, while it does.
        self._starter: int | None = None
        #: The signal at work.
        self._handling = ""

    @functools.cached_property
    def log(self) -> logging.Logger:
        """Where the chart tells what went wrong."""
        return logging.getLogger(f"miros_cache_net.{self.name}")

    @property
    def running(self) -> bool:
        """Started and not stopped."""
        return self._phase == RUNNING and not self._forked

    def start_at(self, initial_state: Any = None) -> None:
        """Enter `initial_state` (a state method or a name; None: the first of `STATES`), then run in a thread.

        The state is entered in the calling thread.
        After `stop` it starts afresh: with its subscriptions, without what was waiting.  Raises ChartError if it
        runs already or the call comes from one of its own handlers.
        """
        self._refuse_if_forked()
        method = self.state_method(self.STATES[0].name if initial_state is None and self.STATES else initial_state)
        if self._in_own_thread():
            raise ChartError(f"chart {self.name} cannot be started by its own handler; let another thread do it")
        with self._one_start:
            self._prepare_start()
            self._starter = threading.get_ident()
            try:
                HsmWithQueues.start_at(self, method)
                self._launch()
            except BaseException:
                self.stop()
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
            # The first line of a trace is looked for at their front.
            self.rtc.spy.clear()
            self.rtc.tuples.clear()
        with self._life:
            self.queue.reopen()
            self._before_start()

    def _launch(self) -> None:
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
        """End the chart's thread, its timers and subscriptions, and forget what waits.

        Any time, any number of times, from any thread; returns when the handler at work is done, except from that
        handler itself.  No exit handler runs.  What is posted afterwards is ignored.
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
            # The first state may be being entered by another thread; it will not launch a thread any more.
            with self._one_start:
                pass
            if thread is not None:
                thread.join()
        with self._life:
            if self._phase == STOPPED:
                self.queue.clear()
                self.defer_queue.clear()

    def run_event(self, task_event: threading.Event, fabric_task_event: threading.Event, queue: ChartQueue) -> None:
        """The chart's thread: sleeps until something is posted; only `stop` ends it, no event and no stopped fabric."""
        while task_event.is_set() and not self._forked:
            queue.wait()
            if task_event.is_set() and len(queue):
                self._run_to_completion()

    def _run_to_completion(self) -> None:
        try:
            self.next_rtc()
        except BaseException as exc:
            # Handlers are contained one by one, so this is the processor itself, or a state that is no blueprint.
            self.temp.fun = self.state.fun
            what = f"broke the event processor: {describe(exc)}"
            self.handler_failed(self.state.fun.__name__, self._handling, what, exc)
        finally:
            self._handling = ""

    def dispatch(self, e: Event) -> None:
        # miros would take it for a call of its own
        if e.signal <= HIGHEST_INNER:
            self.log.warning("ignored %s: not a signal for charts", e.signal_name)
            return
        self._handling = e.signal_name
        super().dispatch(e)

    def queue_flooded(self) -> None:
        """Called once per flood, by whoever posted what was refused first."""
        message = f"chart {self.name} is {len(self.queue)} events behind and refuses more"
        self.report(Reason.OVERFLOW, f"{message}; post less, or handle them faster")

    def replaces_all(self, e: Event) -> bool:
        """Whether `e` leaves nothing of what earlier events of its kind do; asked by posters, where the queue is full.

        The newest of such events finds a place in a full queue, in exchange for an older one.  Must not raise.
        """
        return False

    def _came_late(self, item: Any) -> None:
        self.log.debug("stopped; ignored %s", getattr(item, "signal_name", type(item).__name__))

    def handler_failed(self, state_name: str, signal_name: str, what: str, exc: BaseException | None = None) -> None:
        """Report a handler's mistake; called while its event is handled."""
        message = f"chart {self.name}: the handler of {signal_name} in state {state_name} {what}"
        self.report(Reason.HANDLER, message, exc=exc)

    def _before_start(self) -> None:
        """Called before the first state is entered."""

    def _after_stop(self) -> None:
        """Called when the chart takes no more events; its thread may still be at work."""

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
