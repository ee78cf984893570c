"""Which charts run in this process, and what they are doing."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import Any

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.errors import Reason
from miros_cache_net.events import event
from miros_cache_net.observe.living import LIVING, ChartFacts
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.testing import wait_until


class Held(Chart):
    """HOLD keeps its thread until `go` is set; GO leads from a to b."""

    STATES = (State("outer", HOLD=STAYS), State("a", "outer", GO="b"), State("b", "outer"))

    def __init__(self) -> None:
        super().__init__("held")
        self.holds, self.go = threading.Event(), threading.Event()
        self.start_at("a")

    def _outer_HOLD(self, e: Event) -> int:
        self.holds.set()
        self.go.wait(30)
        return HANDLED

    def _a_GO(self, e: Event) -> int:
        return self.trans("b")


def facts_of(chart: Chart) -> ChartFacts:
    (found,) = [each for each in LIVING.facts() if each.name == chart.name]
    return found


def test_running_chart_is_listed_with_what_it_does(stopping: Any) -> None:
    chart = stopping(Held())
    assert facts_of(chart) == ChartFacts("held", "Held", os.getpid(), "a", 0, 0, "")
    chart.post_fifo(event("GO"))
    wait_until(lambda: facts_of(chart).state == "b", what="the transition")


def test_waiting_and_refused_events_are_seen(stopping: Any) -> None:
    chart = stopping(Held())
    chart.post_fifo(event("HOLD"))
    assert chart.holds.wait(30)
    for _ in range(limits.CHART_QUEUE_EVENTS + 3):
        chart.post_fifo(event("GO"))
    facts = facts_of(chart)
    chart.go.set()
    assert (facts.waiting, facts.refused_events) == (limits.CHART_QUEUE_EVENTS, 3)
    assert "refuses more" in facts.last_error


def test_last_error_is_one_line(stopping: Any) -> None:
    chart = stopping(Held())
    chart.report(Reason.IO, "the disk\nis full")
    assert facts_of(chart).last_error == "the disk is full"


def test_stopped_chart_is_listed_no_more() -> None:
    chart = Held()
    chart.stop()
    assert not [each for each in LIVING.facts() if each.name == "held"]


def test_listing_keeps_no_chart_alive() -> None:
    chart = Held()
    chart.stop()
    gone = weakref.ref(chart)
    del chart
    gc.collect()
    assert gone() is None
