"""A chart that hands events to functions: for programs that are no statechart themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from miros.event import Event

from miros_cache_net.events import event
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Listener(Chart):
    """Calls a function with the payload of each event published under its signal's name; starts itself.

    functions  by signal name; called on this chart's thread, one after the other
    """

    def __init__(self, functions: Mapping[str, Callable[[Any], object]], name: str = "listener") -> None:
        super().__init__(name)
        handlers = {signal: self._handler(function) for signal, function in functions.items()}
        self.listening = self.state("listening", **handlers)
        for signal in functions:
            self.subscribe(event(signal))
        self.start_at(self.listening)

    @staticmethod
    def _handler(function: Callable[[Any], object]) -> Callable[[Any, Event], int]:
        def handle(_chart: Any, e: Event) -> int:
            function(e.payload)
            return HANDLED

        return handle
