"""The states of our charts as data: equal to what the charts do, and to what their handlers say."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import miros_cache_net
from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.probe.prober import Prober
from miros_cache_net.discovery.scout import ProducerScoutChart
from miros_cache_net.events import (
    AMQP_CONSUMER_CHECK,
    CONNECTION_DISCOVERY,
    LAN_RECCE_COMPLETE,
    RECCE_LAN,
    event,
)
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import State
from miros_cache_net.testing import free_port
from tests.charts.file_charts import Bench, until
from tests.charts.recorder import Recorder
from tests.public_charts import public_charts

DECLARED = sorted({chart.__name__ for chart in public_charts()})


@pytest.fixture(params=DECLARED)
def chart_class(request: pytest.FixtureRequest) -> type[Chart]:
    found: type[Chart] = getattr(miros_cache_net, request.param)
    return found


# --- the data alone -----------------------------------------------------------------------------------


def test_states_are_readable_without_chart_or_thread() -> None:
    program = f"""
import threading, miros_cache_net
for name in {DECLARED}:
    for state in getattr(miros_cache_net, name).STATES:
        print(name, state.parent, state.name, *state.on.items())
assert threading.active_count() == 1
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "CacheFileChart file_accessed file_write ('ENTRY', ()) " in done.stdout


def test_chart_is_made_of_at_most_four_classes(chart_class: type[Chart]) -> None:
    ours = [each.__name__ for each in chart_class.__mro__ if each.__module__.startswith("miros_cache_net")]
    assert ours == [chart_class.__name__, "Chart", "LivingFactory", "StatesFactory"]


# --- the data and what the handlers say -----------------------------------------------------------------


def test_each_handler_stands_in_the_states(chart_class: type[Chart]) -> None:
    in_states = {state.handler_of(signal) for state in chart_class.STATES for signal in state.on}
    take_an_event = {
        name
        for name, method in vars(chart_class).items()
        if inspect.isfunction(method) and list(inspect.signature(method).parameters) == ["self", "e"]
    }
    begins = tuple(f"_{state.name}_" for state in chart_class.STATES)
    assert {name for name in take_an_event if name.startswith(begins)} == in_states
    assert not any(name.startswith(begin[1:]) for name in take_an_event for begin in begins)


def test_handlers_go_only_where_the_states_say(chart_class: type[Chart]) -> None:
    for state in chart_class.STATES:
        for signal, targets in state.on.items():
            said = set(targets_in(chart_class, state.handler_of(signal), signal))
            assert said == set(targets), f"{signal} in {state.name}"


def targets_in(chart_class: type[Chart], method: str, signal: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The states that a method names in `self.trans(...)`, itself or in what it calls of its chart."""
    names = {state.name for state in chart_class.STATES}
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(chart_class, method))))
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        called = call.func.attr
        if called == "trans":
            # what a request carries is the signal that it is posted with, and the state of that name
            words = {part.attr for part in ast.walk(call) if isinstance(part, ast.Attribute)}
            yield from {signal} if "signal_name" in words else set()
            yield from {part.value for part in ast.walk(call) if isinstance(part, ast.Constant)} & names
        elif called in vars(chart_class) and called not in seen:
            yield from targets_in(chart_class, called, signal, seen | {called})


# --- the data and what a chart does -----------------------------------------------------------------------

Step = tuple[str, str, str]


def steps(chart: Any) -> set[Step]:
    """The transitions of the chart's trace: what it left, for which signal, for what."""
    found = re.findall(r"e->(\w+)\(\) (\w+)->(\w+)", chart.trace())
    return {(left, signal, entered) for signal, left, entered in found}


def steps_of(states: tuple[State, ...]) -> set[Step]:
    """The transitions that the states allow, from each state in which a chart can rest."""
    by_name = {state.name: state for state in states}

    def rests_in(name: str) -> str:
        (inside,) = by_name[name].on.get("INIT", ()) or (None,)
        return rests_in(inside) if inside else name

    def around(state: State | None) -> Iterator[State]:
        while state is not None:
            yield state
            state = by_name.get(state.parent or "")

    found = {("top", "start_at", rests_in(states[0].name))}
    for state in states:
        handled: set[str] = set()
        for each in around(state):
            for signal, targets in each.on.items():
                if signal not in {"ENTRY", "INIT", "EXIT"} | handled and rests_in(state.name) == state.name:
                    found |= {(state.name, signal, rests_in(target)) for target in targets}
                handled.add(signal)
    return found


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


def test_file_chart_does_what_its_states_say(tmp_path: Path, stopping: Callable[[Any], Any]) -> None:
    bench = Bench(tmp_path, stopping)
    chart = bench.chart(watch=True)
    bench.write({"a": 1})
    bench.read()
    chart.store.apply = lambda changes, failed: 1 / 0  # type: ignore[method-assign,assignment]
    bench.write({"a": 2})
    until(lambda: "access_failed" in chart.trace(), "the failure")
    told = steps(chart)
    assert told <= steps_of(chart.STATES)
    assert {(signal, entered) for _, signal, entered in told} == {
        ("start_at", "file_access_waiting"),
        ("file_read", "file_read"),
        ("read_successful", "file_access_waiting"),
        ("file_write", "file_write"),
        ("write_successful", "file_access_waiting"),
        ("access_failed", "file_access_waiting"),
    }


def test_scouts_do_just_what_their_states_say(
    tmp_path: Path, prober: Prober, stopping: Callable[[Any], Any], recorder: Callable[..., Recorder]
) -> None:
    heard = recorder(AMQP_CONSUMER_CHECK, LAN_RECCE_COMPLETE, CONNECTION_DISCOVERY)
    closed, settings = f"127.0.0.1:{free_port()}", Settings()
    hosts = tmp_path / "hosts.json"
    hosts.write_text(f'{{"hosts": ["{closed}"]}}')
    known = {"settings": settings, "prober": prober}
    scout = stopping(ProducerScoutChart(closed, "#", "amq.topic", **known))
    recce = stopping(LanRecceChart("#", "amq.topic", candidates=lambda: [closed], **known))
    manual = stopping(ManNetChart("#", "amq.topic", hosts, **known))
    recce.post_fifo(event(RECCE_LAN))
    heard.wait_for(lambda events: {e.signal_name for e in events} >= {LAN_RECCE_COMPLETE, CONNECTION_DISCOVERY})
    until(lambda: "no_amqp_consumer_server_found" in scout.trace(), "the scout's verdict")
    scout.post_fifo(event("REFACTOR_SEARCH"))
    until(lambda: "REFACTOR_SEARCH" in scout.trace(), "the scout to begin again")
    for chart, wanted in ((scout, 3), (recce, 4), (manual, 3)):
        until(lambda chart=chart, wanted=wanted: len(steps(chart)) >= wanted, "all its steps")
        assert steps(chart) <= steps_of(chart.STATES)
