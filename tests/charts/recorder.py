"""A chart that writes down what it gets, and waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from miros.event import Event

from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, State

TIMEOUT_S = 20.0


class Recorder(Chart):
    """Subscribes to the given signals, starts itself, and keeps every event of them in `events`."""

    STATES = (State("recording"),)

    def __init__(self, *signal_names: str, name: str = "recorder", start: bool = True) -> None:
        super().__init__(name)
        self._changed = threading.Condition()
        self._events: list[Event] = []
        for signal_name in signal_names:
            self.states["recording"].catch(signal=signal_name, handler=self.record)
            self.subscribe(signal_name)
        if start:
            self.start_at()

    def record(self, e: Event) -> int:
        """The handler: keeps the event."""
        with self._changed:
            self._events.append(e)
            self._changed.notify_all()
        return HANDLED

    @property
    def events(self) -> list[Event]:
        """What came so far."""
        with self._changed:
            return list(self._events)

    @property
    def payloads(self) -> list[Any]:
        """The payloads of what came so far."""
        return [e.payload for e in self.events]

    def wait_for(self, wanted: int | Callable[[list[Event]], Any], timeout_s: float = TIMEOUT_S) -> list[Event]:
        """Return the events once there are so many, or once `wanted(events)` is true; fail after `timeout_s`."""
        enough = wanted if callable(wanted) else lambda events: len(events) >= wanted
        with self._changed:
            if not self._changed.wait_for(lambda: enough(self._events), timeout_s):
                came = [f"{e.signal_name}({e.payload!r:.200})" for e in self._events[-20:]]
                raise AssertionError(f"not what was waited for within {timeout_s} s; the last that came: {came}")
            return list(self._events)
