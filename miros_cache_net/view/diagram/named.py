"""From what a user names to its diagram."""

from __future__ import annotations

import importlib
import operator
import sys
import time
from typing import Any, Final

from miros.activeobject import Factory
from miros.hsm import InstrumentedHsmEventProcessor

from miros_cache_net.errors import ChartError
from miros_cache_net.statechart.factory import StatesFactory
from miros_cache_net.view.diagram.declared import of_class, of_factory
from miros_cache_net.view.diagram.model import Diagram
from miros_cache_net.view.diagram.seen import of_trace

#: A chart that was made just now has handled what was posted once its trace has been still for so long.
_STILL_S: Final = 0.1
_STILL_MOST_S: Final = 3.0


def diagram_named(name: str) -> Diagram:
    """The diagram of ``MODULE:NAME``; a name without a module is one of this package.  Raises `ChartError`."""
    module_name, _, attribute = name.rpartition(":")
    if not attribute:
        raise ChartError(f"{name!r} names no chart; write MODULE:NAME, for instance miros_cache_net:CacheNode")
    return diagram_of(_imported(module_name or "miros_cache_net", attribute), name)


def diagram_of(chart: Any, name: str) -> Diagram:
    """The diagram of a class with `STATES`, of a chart, or of what a callable makes.  Raises `ChartError`."""
    if isinstance(chart, type) and issubclass(chart, StatesFactory) and chart.STATES:
        return of_class(chart)
    if not isinstance(chart, InstrumentedHsmEventProcessor) and callable(chart):
        chart = _made_by(chart, name)
    if isinstance(chart, Factory) and chart.states:
        return of_factory(chart)
    if isinstance(chart, InstrumentedHsmEventProcessor):
        return of_trace(chart)
    raise ChartError(f"{name} is a {type(chart).__name__}, and no chart, class of charts or callable that makes one")


def _imported(module_name: str, attribute: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # the user's own modules, as for `python -m`
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ChartError(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError:
        raise ChartError(f"{module_name} has no {attribute}") from None


def _made_by(make: Any, name: str) -> Any:
    try:
        chart = make()
    except Exception as error:
        raise ChartError(f"{name} cannot be drawn: calling it raised {type(error).__name__}: {error}") from error
    if isinstance(chart, InstrumentedHsmEventProcessor):
        _wait_until_still(chart)
    return chart


def _wait_until_still(chart: Any) -> None:
    end_s = time.monotonic() + _STILL_MOST_S
    seen = -1
    while seen != len(chart.full.spy) and time.monotonic() < end_s:
        seen = len(chart.full.spy)
        time.sleep(_STILL_S)
