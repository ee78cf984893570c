"""A chart that hands events to functions: for programs that are no statechart themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from miros.event import Event

from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, State


class Listener(Chart):
    """Calls a function with the payload of each event published under its signal's name; starts itself.

    functions  by signal name; called on this chart's thread, one after the other
    """

    STATES = (State("listening"),)

    def __init__(self, functions: Mapping[str, Callable[[Any], object]], name: str = "listener") -> None:
        super().__init__(name)
        for signal, function in functions.items():
            self.states["listening"].catch(signal=signal, handler=self._handler(function))
            self.subscribe(signal)
        self.start_at()

    @staticmethod
    def _handler(function: Callable[[Any], object]) -> Callable[[Any, Event], int]:
        def handle(_chart: Any, e: Event) -> int:
            function(e.payload)
            return HANDLED

        return handle
