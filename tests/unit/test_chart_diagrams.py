"""Charts as pictures: `miros-cache-net chart`, and the diagrams that it writes."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.cli import main
from miros_cache_net.view.diagram.crossings import crossings
from miros_cache_net.view.diagram.dot import DOWN, dot_text
from miros_cache_net.view.diagram.model import Arrow, Diagram, DrawnState
from miros_cache_net.view.diagram.named import diagram_named
from miros_cache_net.view.diagram.outline import mermaid_text, plantuml_text
from miros_cache_net.view.diagram.svg import digest, svg_text

FLAT = """
from miros.activeobject import ActiveObject, Factory
from miros.event import Event, return_status, signals
from miros.hsm import spy_on


@spy_on
def outer(chart, e):
    if e.signal == signals.INIT_SIGNAL:
        return chart.trans(red)
    if e.signal == signals.RESET:
        return chart.trans(outer)
    chart.temp.fun = chart.top
    return return_status.SUPER


@spy_on
def red(chart, e):
    if e.signal == signals.GO:
        return chart.trans(green)
    if e.signal == signals.LOOK:
        return return_status.HANDLED
    chart.temp.fun = outer
    return return_status.SUPER


@spy_on
def green(chart, e):
    chart.temp.fun = outer
    return return_status.SUPER


def posted(chart, *names):
    for name in names:
        chart.post_fifo(Event(signal=name))
    return chart


def flat():
    chart = ActiveObject("lights")
    chart.start_at(outer)
    return posted(chart, "LOOK", "GO", "RESET", "LOOK")


def factory():
    chart = Factory("made")
    go = lambda chart, e: chart.trans(there)
    still = lambda chart, e: return_status.HANDLED
    around = chart.create(state="around").catch(signal=signals.ENTRY_SIGNAL, handler=still).to_method()
    here = chart.create(state="here").catch(signal=signals.GO, handler=go).to_method()
    there = chart.create(state="there").catch(signal=signals.LOOK, handler=still).to_method()
    chart.nest(around, parent=None).nest(here, parent=around).nest(there, parent=around)
    chart.start_at(here)
    return posted(chart, "GO")


def unseen():
    return ActiveObject("unseen")


def broken():
    raise RuntimeError("no chart today")


number = 7
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with charts of a user's own; its name."""
    (tmp_path / "charts_of_a_user.py").write_text(FLAT)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "charts_of_a_user"
    sys.modules.pop("charts_of_a_user", None)


def names(diagram: Diagram) -> dict[str, str | None]:
    return {state.name: state.parent for state in diagram.states}


# --- where diagrams come from ---------------------------------------------------------------------------------


def test_class_gives_states_hooks_and_arrows() -> None:
    diagram = diagram_named(":CacheFileChart")
    assert names(diagram)["file_read"] == "file_accessed"
    assert diagram.start == "file_access_waiting"
    assert diagram.states[1].actions() == ["entry /", "exit /", "lock_granted /"]
    assert Arrow("file_accessed", "file_access_waiting", ("access_failed",)) in diagram.arrows


def test_flat_chart_shows_what_trace_saw(program: str) -> None:
    diagram = diagram_named(f"{program}:flat")
    assert names(diagram) == {"outer": None, "red": "outer", "green": "outer"}
    assert diagram.states[0].initial == ("red",) and diagram.states[1].hooks == ("LOOK",)
    assert diagram.arrows == (Arrow("red", "green", ("GO",)), Arrow("outer", "outer", ("RESET",)))
    assert diagram.start == "outer" and "trace" in diagram.note


def test_factory_shows_nesting_and_seen_transitions(program: str) -> None:
    diagram = diagram_named(f"{program}:factory")
    assert names(diagram) == {"around": None, "here": "around", "there": "around"}
    assert diagram.states[0].entry and diagram.states[2].hooks == ("LOOK",)
    assert diagram.arrows == (Arrow("here", "there", ("GO",)),)
    assert diagram.start == "here"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unseen", "unseen cannot be drawn: its trace has seen no state"),
        ("broken", "charts_of_a_user:broken cannot be drawn: calling it raised RuntimeError: no chart today"),
        ("number", "charts_of_a_user:number is a int, and no chart"),
        ("nothing", "charts_of_a_user has no nothing"),
    ],
)
def test_what_cannot_be_drawn_is_named(
    program: str, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert main(["chart", f"{program}:{name}"]) == 2
    shown = capsys.readouterr()
    assert words in shown.err and shown.out == ""


@pytest.mark.parametrize(
    ("name", "words"), [("no_such_module:x", "cannot be imported"), ("miros_cache_net:", "MODULE:NAME")]
)
def test_a_wrong_name_says_how_to_write_it(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chart", name]) == 2
    assert words in capsys.readouterr().err


# --- how they are written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["svg", "mermaid", "plantuml", "dot"])
def test_every_format_shows_every_state(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chart", ":LanChart", "--format", form]) == 0
    shown = capsys.readouterr().out
    assert all(state.name in shown for state in diagram_named(":LanChart").states)


def test_without_graphviz_mermaid_and_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["chart", ":ManNetChart"]) == 0
    shown = capsys.readouterr()
    assert "stateDiagram-v2" in shown.out
    assert "`dot` is not installed" in shown.err and "Mermaid" in shown.err


def test_graphviz_that_fails_names_the_chart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dot").write_text("#!/bin/sh\necho out of memory >&2\nexit 1\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["chart", ":ManNetChart"]) == 2
    assert "ManNetChart cannot be drawn: Graphviz says: out of memory" in capsys.readouterr().err


def test_picture_has_one_typeface_and_words() -> None:
    diagram = diagram_named(":ManNetChart")
    picture = ET.fromstring(svg_text(diagram))
    assert [each.get("font-family") for each in picture.iter() if each.get("font-family")] == [
        "Arial, 'Liberation Sans', Helvetica, sans-serif"
    ]
    assert picture.get("data-digest") == digest(diagram)
    assert "all_hosts_scouted: from evaluate_hosts to manual_network." in str(picture[1].text)


def test_picture_stands_on_a_card_of_its_own() -> None:
    picture = ET.fromstring(svg_text(diagram_named(":ManNetChart")))
    card = next(each for each in picture.iter() if "card" in each.get("class", "").split())
    assert next(iter(card)).get("fill") in ("#ffffff", "white")


HOSTILE = '"><script>alert(1)</script>&\n\u202e]];'


def hostile() -> Diagram:
    return Diagram(
        HOSTILE, (DrawnState(HOSTILE, hooks=(HOSTILE,)), DrawnState("end")), (Arrow(HOSTILE, "end", (HOSTILE,)),)
    )


def test_names_with_markup_stay_text_in_svg() -> None:
    picture = ET.fromstring(svg_text(hostile()))
    assert not [each for each in picture.iter() if str(each.tag).endswith("script")]
    assert any("<script>" in (each.text or "") for each in picture.iter())


def test_names_with_markup_are_escaped_elsewhere() -> None:
    for text in (mermaid_text(hostile()), plantuml_text(hostile()), dot_text(hostile(), DOWN)):
        assert "<script" not in text and "\u202e" not in text
    assert "  state s0_" not in mermaid_text(hostile()).replace('state "', "") and "s1_" in mermaid_text(hostile())


def test_final_is_where_nothing_leads_on() -> None:
    diagram = Diagram("d", (DrawnState("a"), DrawnState("b")), (Arrow("a", "b", ("GO",)),), "a")
    assert [diagram.is_final(name) for name in "ab"] == [False, True]
    assert "  b --> [*]" in mermaid_text(diagram)


def test_crossing_lines_are_counted() -> None:
    one, two, apart = "M0,0C0,0 10,10 10,10", "M0,10C0,10 10,0 10,0", "M20,0C20,0 30,10 30,10"
    assert crossings([one, two, apart]) == 1
