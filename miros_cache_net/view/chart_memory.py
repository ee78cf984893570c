"""The current state of each chart of a fleet and its last transition, from the steps that hosts report."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from miros_cache_net import limits
from miros_cache_net.fleet.trace_watch import HostStep
from miros_cache_net.observe.moments import split
from miros_cache_net.view.diagram.model import Diagram, DrawnState, gathered
from miros_cache_net.view.diagram.seen import NOTE
from miros_cache_net.view.pictures import class_with

Json = dict[str, Any]
_START: Final = "start_at"


@dataclass
class _Chart:
    """One chart of one process: its last step, and the transitions it has made."""

    step: HostStep
    ways: dict[tuple[str, str, str], None] = field(default_factory=dict)
    start: str | None = None

    @property
    def class_name(self) -> str:
        """The class of this package that has these states and signals; "" for a user's chart."""
        states = {self.step.step.to_state, *(source for source, _, _ in self.ways)}
        return class_with(states, {signal for _, signal, _ in self.ways})


class ChartMemory:
    """Call `took` and `forget` on one thread, the other methods on any."""

    def __init__(self) -> None:
        #: In order of the last report, the oldest first.
        self._charts: OrderedDict[tuple[str, int, str], _Chart] = OrderedDict()
        self._transitions: deque[HostStep] = deque(maxlen=limits.VIEW_CHANGES)

    def took(self, steps: Iterable[HostStep]) -> None:
        """Record these steps, which arrive in order."""
        for each in steps:
            step = each.step
            key = each.node, step.process, step.chart
            chart = self._charts.setdefault(key, _Chart(each))
            self._charts.move_to_end(key)
            if len(self._charts) > limits.VIEW_CHARTS:
                self._charts.popitem(last=False)
            if step.event == _START:
                chart.start = step.to_state
            if step.from_state != step.to_state or step.event == _START:
                chart.step = each
                self._transitions.append(each)
                if len(chart.ways) < limits.VIEW_WAYS and step.event != _START:
                    chart.ways[step.from_state, step.event, step.to_state] = None

    def forget(self, node: str) -> None:
        """Stop showing that node's charts."""
        for key in [key for key in self._charts if key[0] == node]:
            del self._charts[key]

    def now(self) -> list[Json]:
        """Each chart: its node, process, name, class in this package, and last transition."""
        return [
            {"class": chart.class_name, "ways": len(chart.ways), **_shown(chart.step)}
            for _, chart in sorted(self._charts.items())
        ]

    def transitions(self) -> list[Json]:
        """The last transitions of all charts, newest first."""
        return [_shown(each) for each in reversed(list(self._transitions))]

    def diagram(self, node: str, process: int, name: str) -> Diagram | None:
        """A user's chart, inferred from its steps; None if it is unknown."""
        chart = self._charts.get((node, process, name))
        if chart is None:
            return None
        ways = list(chart.ways)
        states = dict.fromkeys(state for source, _, target in ways for state in (source, target))
        states[chart.step.step.to_state] = None
        return Diagram(
            name,
            tuple(map(DrawnState, filter(None, states))),
            gathered(w for w in ways if w[0] and w[2]),
            chart.start,
            NOTE,
        )


def _shown(each: HostStep) -> Json:
    step = each.step
    return {
        "at_ms": split(step.moment)[0],
        "node": each.node,
        "pid": step.process,
        "chart": step.chart,
        "event": step.event,
        "from": step.from_state,
        "to": step.to_state,
    }
