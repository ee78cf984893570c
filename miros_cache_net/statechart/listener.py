"""A chart that passes events to functions, for programs without statecharts of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from miros.event import Event

from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, State


class Listener(Chart):
    """Calls a signal's function with the payload of each event published for it; starts itself.

    functions  by signal name; called on this chart's thread, one after the other
    start      False: events wait until `start_at`
    """

    STATES = (State("listening"),)

    def __init__(
        self, functions: Mapping[str, Callable[[Any], object]], name: str = "listener", *, start: bool = True
    ) -> None:  # fmt: skip
        super().__init__(name)
        for signal, function in functions.items():
            self.states["listening"].catch(signal=signal, handler=self._handler(function))
            self.subscribe(signal)
        if start:
            self.start_at()

    @staticmethod
    def _handler(function: Callable[[Any], object]) -> Callable[[Any, Event], int]:
        def handle(_chart: Any, e: Event) -> int:
            function(e.payload)
            return HANDLED

        return handle
