"""The charts that run in this process, held weakly: the list keeps no chart alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from miros_cache_net.observe.families import CHARTS
from miros_cache_net.observe.registry import PROCESS


class ChartFacts(NamedTuple):
    """One chart at one moment.

    name            as it appears in its traces
    class_name      the name of its class
    process         the id of its process
    state           its innermost state; "" while it enters its first one
    waiting         how many events wait in its queue
    refused_events  how many the full queue has refused
    last_error      the last error that it reported, in one line; "" if none
    """

    name: str
    class_name: str
    process: int
    state: str
    waiting: int
    refused_events: int
    last_error: str


#: Returns the facts about a chart now, on any thread; None: it does not run.
Look = Callable[[Any], "ChartFacts | None"]


class LivingCharts:
    """Thread-safe without a lock, so a fork or a signal handler cannot deadlock on it."""

    def __init__(self) -> None:
        self._charts: dict[int, tuple[weakref.ref[Any], Look]] = {}

    def add(self, chart: Any, look: Look) -> None:
        """Add `chart`; it is listed while `look(chart)` says that it runs."""
        key = id(chart)
        self._charts[key] = weakref.ref(chart, lambda _: self._charts.pop(key, None)), look

    def facts(self) -> list[ChartFacts]:
        """The facts about each running chart, oldest first."""
        found = [(each(), look) for each, look in list(self._charts.values())]
        return [facts for chart, look in found if chart is not None and (facts := look(chart)) is not None]


#: The charts of this process.
LIVING: Final = LivingCharts()

PROCESS.gauge(CHARTS, lambda: len(LIVING.facts()))
