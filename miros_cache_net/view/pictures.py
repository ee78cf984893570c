"""The pictures of our charts for the page, each drawn once."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.scout import ProducerScoutChart
from miros_cache_net.errors import ChartError
from miros_cache_net.node import CacheNode
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.view.diagram.declared import of_class
from miros_cache_net.view.diagram.outline import mermaid_text
from miros_cache_net.view.diagram.svg import svg_text

CHARTS: Final[dict[str, type[Chart]]] = {
    chart.__name__: chart
    for chart in (CacheNode, CacheFileChart, LanChart, LanRecceChart, ProducerScoutChart, ManNetChart)
}


@functools.cache
def _states_of(name: str) -> frozenset[str]:
    return frozenset(state.name for state in CHARTS[name].STATES)


@functools.cache
def _signals_of(name: str) -> frozenset[str]:
    return frozenset(signal for state in CHARTS[name].STATES for signal in state.on)


def class_with(states: Iterable[str], signals: Iterable[str]) -> str:
    """The name of the class in this package that has all these states and handles all these signals; "" if none does.

    A user's chart may name its states as ours do, but hardly moves between them by the same signals.
    """
    wanted, handled = {state for state in states if state}, set(signals)
    return next((name for name in CHARTS if wanted and wanted <= _states_of(name) and handled <= _signals_of(name)), "")


@functools.cache
def picture_of(name: str) -> str | None:
    """The SVG of the chart with that class name; None if there is none.  Raises `ChartError`, which names them."""
    chart = CHARTS.get(name)
    return None if chart is None else svg_text(of_class(chart))


def words_of(name: str, error: ChartError) -> str:
    """The replacement for a picture that cannot be drawn: the reason, and the chart as text."""
    return f"{error}\n\n{mermaid_text(of_class(CHARTS[name]))}"
