"""What recording its steps costs a chart: CPU of one event, taken in turns with a chart that records nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from miros.event import Event

from benchmarks.measure import Line
from miros_cache_net.events import event
from miros_cache_net.observe.steps import DETAIL
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import State

#: What a step may cost more, in microseconds of CPU.
_MAY_COST_US = 5.0
_EVENTS, _TURNS = 1000, 30


class _NoRing:
    """Takes the place of a chart's ring and records nothing."""

    hook = ""

    def begin(self) -> None: ...

    def carries(self, payload: Any) -> None: ...

    def end(self, event: str, from_state: str, to_state: str, spy: Any) -> None: ...


class _PingPong(Chart):
    STATES = (State("ping", TURN="pong"), State("pong", TURN="ping"))

    def _ping_TURN(self, e: Event) -> int:
        return self.trans("pong")

    def _pong_TURN(self, e: Event) -> int:
        return self.trans("ping")


def steps(_directory: Path) -> list[Line]:
    """A transition of the smallest chart: recorded, recorded with its spy's lines, and not at all."""
    names = ("recorded", "bare", "watched")
    charts = {name: _PingPong(name) for name in names}
    charts["bare"]._steps = _NoRing()  # type: ignore[assignment]
    for chart in charts.values():
        chart.start_at()
        chart.stop()
        chart.queue.reopen()
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_TURNS):
        for name, chart in charts.items():
            DETAIL.want(charts, spy=name == "watched", payloads=name == "watched")
            taken[name].append(_cpu_us(chart))
            DETAIL.want(charts, spy=False, payloads=False)
    recorded, bare, watched = (min(taken[name]) for name in names)
    return [
        Line("a chart's step, CPU", recorded, bare, "us", note="against one that records nothing"),
        Line("what recording adds to it", recorded - bare, _MAY_COST_US, "us", "<= 1", "against what it may add"),
        Line("a step with spy and payload, CPU", watched, bare, "us", note="while somebody watches them"),
    ]


def _cpu_us(chart: Chart) -> float:
    """CPU of one event; the calling thread takes the place of the chart's."""
    turn = event("TURN", {"n": 1})
    for _ in range(_EVENTS):
        chart.queue.append(turn)
    began = time.thread_time_ns()
    for _ in range(_EVENTS):
        chart._run_to_completion()
    return (time.thread_time_ns() - began) / _EVENTS / 1000
