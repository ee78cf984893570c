"""`top`: what its pages show on screens of every width, and what its keys do; its fleet is a script."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from miros_cache_net.cli.checks.finding import FAILED, failed
from miros_cache_net.cli.top.fleet import Change, Picture, Row, WatchedFleet
from miros_cache_net.cli.top.keys import Top
from miros_cache_net.cli.top.screen import View, console_for, diff_page, fleet_page, node_page
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import BrokerUnreachable
from miros_cache_net.node_status import NodeStatus, status_from
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message, Origin

HOSTILE = "evil\x1b[31m\u202e[red]\u200f\n\x07"
WIDTHS = pytest.mark.parametrize("width", [60, 100, 160])


def status(node: str, **said: Any) -> NodeStatus:
    whole = {
        "host": node,
        "state": "in step",
        "connected": True,
        "broker": "RabbitMQ 3.13 at amqp://cache@broker.example",
        "version": "0123456789",
        "keys": ["k1"],
        "age_s": 60.0,
        "expires_s": 3600.0,
        "ahead_s": 0.02,
        "lag_s": 0.1,
        "release": "1.2.3",
        "format": 2,
        "uptime_s": 7200.0,
    }
    return status_from({**whole, "node": node, **said})


def document(**contents: Any) -> Document:
    return Document.unwritten({}).written(contents, Stamp(50_000, 0, "alpha-1"), 50_000)


def drawn(page: Any, width: int, height: int = 24) -> str:
    console = console_for(False)
    console.width = width
    with console.capture() as captured:
        console.print(page)
    return captured.get()


def picture(*nodes: NodeStatus, wrong: Any = (), changes: Any = ()) -> Picture:
    return Picture([Row(node, 0.0) for node in nodes], list(changes), list(wrong), asked=True)


@WIDTHS
def test_page_fits_the_screen_whatever_is_wrong(width: int) -> None:
    many = picture(
        *(status(f"node-{n}") for n in range(99)),
        wrong=[failed("disk", f"node-{n}: {'no space left ' * 9}") for n in range(99)],
        changes=[Change(0.0, f"node-{n}", "new: " + "key " * 99) for n in range(99)],
    )
    lines = drawn(fleet_page(many, View(selected=50), width, 24), width).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    shown = "\n".join(lines)
    assert "node-50" in shown and "fix: free space" in shown and "more: `miros-cache-net doctor`" in shown
    assert "last changes" in shown and "q: quit" in shown


@WIDTHS
def test_columns_are_those_that_have_room(width: int) -> None:
    shown = drawn(fleet_page(picture(status("alpha-1")), View(), width, 24), width)
    always, later = ("alpha-1", "in step", "01234567", "1 min", "+0.0 s", "80 ms"), ("in 1 h", "1.2.3", "2 h")
    assert all(each in shown for each in always)
    assert all((each in shown) == (width >= 100) for each in later)
    assert ("broker.example" in shown) == (width >= 160)


@WIDTHS
def test_hostile_texts_reach_no_screen(width: int) -> None:
    said = {name: HOSTILE for name, kind in get_type_hints(NodeStatus).items() if kind is str}
    checks = [{"name": HOSTILE, "ok": False, "detail": HOSTILE}]
    evil = status_from({**said, "checks": checks, "keys": [HOSTILE], "counters": {HOSTILE: 1}})
    all_of_it = picture(evil, wrong=[failed("trouble", HOSTILE)], changes=[Change(0.0, HOSTILE, HOSTILE)])
    one, other = document(**{HOSTILE: HOSTILE}), document(b=HOSTILE)
    pages = [
        fleet_page(all_of_it, View(filter=HOSTILE, typing=True), width, 24),
        fleet_page(all_of_it, None, width, 24),
        node_page(all_of_it.rows[0], View()),
        diff_page((HOSTILE, "b"), {HOSTILE: one, "b": other}, View()),
    ]
    for page in pages:
        shown = drawn(page, width)
        assert "evil" in shown and "[red]" in shown
        assert all(c == "\n" or c.isprintable() for c in shown)


def test_node_page_begins_with_what_is_wrong() -> None:
    node = status("alpha-1", checks=[{"name": "disk", "ok": False, "detail": "is full"}, {"name": "key", "ok": True}])
    lines = drawn(node_page(Row(node, 0.0), View()), 100).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["alpha-1", "FAILED", "fix"]
    assert any(line.split() == ["well", "key"] for line in lines)


def test_comparison_shows_where_two_documents_differ() -> None:
    documents = {"a": document(same=1, changed=1, only_a=1), "b": document(same=1, changed=2)}
    lines = [line.split() for line in drawn(diff_page(("a", "b"), documents, View()), 80).splitlines()]
    assert ["changed", "1", "2"] in lines and ["only_a", "1", "-"] in lines and ["same", "1", "1"] not in lines
    assert "no document from b" in drawn(diff_page(("a", "b"), {"a": documents["a"]}, View()), 80)


# --- the fleet ----------------------------------------------------------------------------------------


class Client:
    """A fleet client whose answers are a script; an error among them is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.fleet = self
        self.on_change: Any = None
        self.asked_for: set[str] = set()

    def statuses(self, _timeout_s: float) -> list[NodeStatus]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def documents(self, nodes: set[str], _timeout_s: float) -> dict[str, Document]:
        self.asked_for = nodes
        return {node: document(of=node) for node in nodes}


def watched(*answers: Any) -> WatchedFleet:
    fleet = WatchedFleet(Client(*answers))  # type: ignore[arg-type]
    for _ in answers:
        fleet.ask()
    return fleet


def test_node_that_stops_answering_stays_as_silent() -> None:
    both = [status("alpha-1"), status("beta-2")]
    assert not any(row.is_silent for row in watched(both, both[:1]).picture().rows)
    shown = watched(both, both[:1], both[:1]).picture()
    assert [row.is_silent for row in shown.rows] == [False, True]
    assert [finding.check for finding in shown.wrong] == ["silent"] and "beta-2" in shown.wrong[0].detail
    assert watched(both, both[:1], both[:1], both).picture().wrong == []


def test_lost_broker_is_the_one_thing_wrong() -> None:
    both = [status("alpha-1"), status("beta-2")]
    (finding,) = watched(both, BrokerUnreachable("gone", mend="start it"), BrokerUnreachable("gone")).picture().wrong
    assert (finding.check, finding.outcome) == ("broker", FAILED) and finding.fix


def test_different_documents_fail_only_once_they_stay() -> None:
    before, now = [status("alpha-1"), status("beta-2")], [status("alpha-1"), status("beta-2", version="9")]
    assert [finding.outcome for finding in watched(before, now).picture().wrong] == ["warning"]
    assert [finding.outcome for finding in watched(before, now, now).picture().wrong] == [FAILED]


def test_refusals_of_another_key_count_from_the_start() -> None:
    def counted(number: int) -> list[NodeStatus]:
        return [status("alpha-1", counters={"refused_not_authentic": number})]

    assert watched(counted(5), counted(5)).picture().wrong == []
    (finding,) = watched(counted(5), counted(7)).picture().wrong
    assert finding.check == "refused" and "alpha-1 has refused 2 messages" in finding.detail


def test_changes_are_told_by_their_keys() -> None:
    client = Client()
    fleet = WatchedFleet(client)  # type: ignore[arg-type]
    for number, contents in enumerate(({"a": 1}, {"a": 2, "b": 1}, "broken")):
        body = document(**contents).to_json() if isinstance(contents, dict) else contents
        client.on_change(Message(kinds.CACHE, "s", "d", f"id-{number}", Origin("beta-2", "b", "x", 0), 0, body, ""))
    assert [change.what for change in fleet.picture().changes] == ["new: b, changed: a", "1 key"]


# --- the keys -----------------------------------------------------------------------------------------


def pressed(*keys: str) -> Top:
    nodes = [status("alpha-1"), status("beta-2", version="9"), status("gamma-3")]
    top = Top(watched(nodes))
    for key in keys:
        top.page(80, 24)
        top.press(key)
    return top


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        (["down", "enter"], "beta-2"),
        (["j", "j", "j", "j", "k", "enter"], "beta-2"),
        (["/", "g", "a", "x", "backspace", "enter", "enter"], "gamma-3"),
        (["down", "d"], "alpha-1 | beta-2"),
        (["d"], "beta-2 | alpha-1"),
        (["down", "down", " ", "up", "up", "d"], "gamma-3 | alpha-1"),
    ],
)
def test_keys_lead_to_the_page_that_they_promise(keys: list[str], shown: str) -> None:
    top = pressed(*keys)
    assert drawn(top.page(80, 24), 80).splitlines()[0].strip() == shown
    top.press("escape")
    assert "enter: node" in drawn(top.page(80, 24), 80)


def test_t_asks_for_the_trace_of_the_chosen_node() -> None:
    assert pressed("down", "t").to_trace == "beta-2"
    assert pressed("/", "z", "enter", "t").to_trace == ""


def test_q_quits_but_not_while_a_filter_is_typed() -> None:
    assert not pressed("q").is_on
    assert not pressed("").is_on
    typing = pressed("/", "q")
    assert typing.is_on and typing.view.filter == "q"
    assert pressed("/", "q", "escape").view.filter == ""


def test_filter_that_fits_no_node_leaves_nothing_to_open() -> None:
    top = pressed("/", "z", "enter", "enter", "d", " ")
    assert top.view.page == "fleet"
    assert "0 nodes of 3" in drawn(top.page(80, 24), 80)


def test_same_documents_are_compared_only_if_marked() -> None:
    top = Top(watched([status("alpha-1"), status("beta-2")]))
    top.press("d")
    assert (top.view.page, "mark a node with space" in top.view.note) == ("fleet", True)
