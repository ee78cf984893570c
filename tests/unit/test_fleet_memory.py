"""What the live page shows of what nodes have answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.fleet.trace_watch import HostStep
from miros_cache_net.observe.steps import Step
from miros_cache_net.view.diagram.model import Arrow
from miros_cache_net.view.fleet_memory import GONE_AFTER_S, MEMORY_S, FleetMemory, Json
from miros_cache_net.view.stream import EventStream, Latest


def status(node: str, **more: Any) -> dict[str, Any]:
    return {"node": node, "host": "here", "pid": 7, "role": "bridge", "connected": True, "version": "v", **more}


def memory(*statuses: dict[str, Any], at_s: float = 0.0) -> FleetMemory:
    made = FleetMemory("fleet", "cache.json")
    made.answered(statuses, at_s, 1000)
    return made


def nodes(picture: Json) -> dict[str, tuple[str, str]]:
    return {node["node"]: (node["health"], node["why"]) for node in picture["nodes"]}


def test_node_in_step_is_well() -> None:
    assert nodes(memory(status("a")).picture(1, 1000)) == {"a": ("well", "")}


def test_trouble_is_said_as_the_node_says_it() -> None:
    assert nodes(memory(status("a", trouble="disk full")).picture(1, 1000)) == {"a": ("troubled", "disk full")}


def test_silent_node_is_gone_and_why() -> None:
    made = memory(status("a"), status("b"))
    made.answered([status("a")], GONE_AFTER_S + 1, 2000)
    found = nodes(made.picture(GONE_AFTER_S + 1, 2000))
    assert found["a"] == ("well", "")
    assert found["b"][0] == "gone" and "no answer for 6 s: process 7 on here has ended" in found["b"][1]


def test_gone_node_is_forgotten_at_last() -> None:
    made = memory(status("a"), status("b"))
    made.answered([status("a")], MEMORY_S + 1, 2000)
    assert list(nodes(made.picture(MEMORY_S + 1, 2000))) == ["a"]


def test_without_link_no_node_is_blamed() -> None:
    made = memory(status("a"))
    made.unlinked("no broker")
    picture = made.picture(GONE_AFTER_S + 60, 2000)
    assert picture["link"] == "no broker" and nodes(picture)["a"][0] == "waiting"


def took(chart: str, *ways: tuple[str, str, str]) -> list[HostStep]:
    return [
        HostStep(Step(number << 16, 7, chart, event, before, after, 1), "here", "a")
        for number, (before, event, after) in enumerate(ways, 1)
    ]


def test_transitions_are_listed_latest_first() -> None:
    made = memory(status("a"))
    made.charts.took(took("node c", ("joining", "joined", "in_sync"), ("in_sync", "CACHE", "in_sync")))
    made.charts.took(took("node c", ("in_sync", "link_down", "unlinked")))
    picture = made.picture(1, 2000)
    assert [(each["event"], each["to"]) for each in picture["changes"]] == [
        ("link_down", "unlinked"),
        ("joined", "in_sync"),
    ]
    (chart,) = picture["charts"]
    assert (chart["class"], chart["from"], chart["to"], chart["ways"]) == ("CacheNode", "in_sync", "unlinked", 2)


def test_users_chart_with_a_state_of_ours_is_a_users() -> None:
    made = memory(status("a"))
    made.charts.took(took("mine", ("joining", "TICK", "in_sync")))
    (chart,) = made.picture(1, 2000)["charts"]
    assert chart["class"] == ""


def test_users_chart_is_drawn_as_far_as_seen() -> None:
    made = memory(status("a"))
    made.charts.took(took("mine", ("", "start_at", "red"), ("red", "GO", "green")))
    diagram = made.charts.diagram("a", 7, "mine")
    assert diagram is not None and diagram.start == "red"
    assert diagram.arrows == (Arrow("red", "green", ("GO",)),)
    assert made.charts.diagram("a", 8, "mine") is None


def test_charts_of_forgotten_nodes_are_forgotten() -> None:
    made = memory(status("a"))
    made.charts.took(took("mine", ("red", "GO", "green")))
    made.answered([], MEMORY_S + 1, 2000)
    assert made.picture(MEMORY_S + 1, 2000)["charts"] == []


def test_charts_and_ways_are_capped() -> None:
    made = memory(status("a"))
    for number in range(limits.VIEW_CHARTS + 10):
        made.charts.took(took(f"chart {number}", ("red", "GO", "green")))
    made.charts.took(took("chart 0", *((f"s{n}", "GO", f"s{n + 1}") for n in range(limits.VIEW_WAYS + 10))))
    charts = made.picture(1, 1000)["charts"]
    assert len(charts) == limits.VIEW_CHARTS
    assert max(each["ways"] for each in charts) == limits.VIEW_WAYS


def test_chart_heard_least_recently_is_forgotten() -> None:
    made = memory(status("a"))
    for number in range(limits.VIEW_CHARTS):
        made.charts.took(took(f"chart {number}", ("red", "GO", "green")))
    made.charts.took(took("chart 0", ("green", "TICK", "green")))
    made.charts.took(took("new", ("red", "GO", "green")))
    known = {each["chart"] for each in made.picture(1, 1000)["charts"]}
    assert {"chart 0", "new"} <= known and "chart 1" not in known


@pytest.mark.parametrize("password", ["sesame", "se/same", "p@sesame", "p sesame", "p'sesame", 'p"sesame', "p\\sesame"])
def test_passwords_in_values_are_hidden(password: str) -> None:
    made = memory(status("a"))
    made.holds(Document.unwritten({}).written({"urls": [f"amqp://me:{password}@host"]}, Stamp(5, 0, "a"), 5))
    (entry,) = made.picture(1, 1000)["contents"]["entries"]
    assert entry["value"] == '["amqp://***@host"]'


def test_document_says_who_wrote_what() -> None:
    made = memory(status("a"))
    document = Document.unwritten({}).written({"urls": "amqp://me:secret@host", "n": 1}, Stamp(5, 0, "a"), 5)
    made.holds(document.updated({"n": 2}, (), Stamp(9, 0, "b"), 9))
    contents = made.picture(1, 1000)["contents"]
    assert [(each["key"], each["value"], each["by"], each["at_ms"]) for each in contents["entries"]] == [
        ("n", "2", "b", 9),
        ("urls", '"amqp://***@host"', "a", 5),
    ]


def test_write_arrives_where_versions_agree() -> None:
    document = Document.unwritten({}).written({"n": 1}, Stamp(5, 0, "a"), 5)
    made = memory(status("a"), status("b", version=document.version, lag_s=0.02), status("c"))
    made.holds(document)
    write = made.picture(1, 1000)["write"]
    assert write["by"] == "a"
    assert [(each["node"], each["has"]) for each in write["arrivals"]] == [("b", True), ("c", False)]


def test_caps_hold_against_many_and_odd_answers() -> None:
    odd = [status(f"n{number}", counters={str(i): i for i in range(500)}) for number in range(limits.VIEW_NODES + 50)]
    made = memory({"node": 3, "counters": "x", "trouble": ["y"]}, *odd)
    picture = made.picture(1, 1000)
    assert len(picture["nodes"]) == limits.VIEW_NODES
    assert len(made.plots()[-1][1]) == limits.VIEW_COUNTERS


def test_browser_that_does_not_read_loses_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VIEW_STALLED_S", 0.01)
    left: list[bool] = []

    async def never(*_: object) -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await never()

    async def play() -> None:
        latest = Latest()
        latest.show({"n": 1}, [])
        await asyncio.wait_for(EventStream(latest, lambda: left.append(True))({}, never, send), 30)

    asyncio.run(play())
    assert left == [True]


def test_slow_reader_gets_the_latest_only() -> None:
    async def play() -> list[str]:
        latest = Latest()
        events = latest.events()
        latest.show({"n": 1}, [])
        first = [await anext(events), await anext(events)]
        for number in (2, 3, 4):
            latest.show({"n": number}, [])
        return [*first, await anext(events)]

    plots, one, four = asyncio.run(play())
    assert plots == "event: plots\ndata: []\n\n"
    assert one == 'event: fleet\ndata: {"n": 1}\n\n' and four == 'event: fleet\ndata: {"n": 4}\n\n'
