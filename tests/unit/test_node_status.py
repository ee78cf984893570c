"""What nodes say of themselves: taken from strangers field by field, shown without what a terminal would interpret."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from miros_cache_net import limits
from miros_cache_net.cli import node_text
from miros_cache_net.cli import status as status_command
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.fleet.write_lag import WriteLag
from miros_cache_net.node_status import NodeStatus, status_from
from miros_cache_net.testing import ManualClock

HOSTILE = "evil\x1b[31m\u202e[bold]\u200f\n\x07"


def node(**said: Any) -> NodeStatus:
    return status_from({"node": "alpha-1", "host": "alpha", "state": "in step", "connected": True, **said})


def test_every_field_is_taken_and_no_other() -> None:
    assert set(status_from({"strange": 1})) == set(get_type_hints(NodeStatus))


@pytest.mark.parametrize(
    ("field", "said", "taken"),
    [
        ("node", 7, ""),
        ("trouble", "x" * 9_999, "x" * limits.HOST_TEXT_BYTES),
        ("connected", "yes", False),
        ("age_s", float("nan"), None),
        ("age_s", True, None),
        ("uptime_s", 1e300, None),
        ("uptime_s", 10**400, None),
        ("pid", 2**70, 0),
        ("keys", ["a", 3], ["a", ""]),
        ("keys", "abc", []),
        ("checks", [{"name": "disk", "ok": 1}, "x"], [{"name": "disk", "ok": False, "detail": ""}]),
        ("counters", {"a": 1, "b": "x"}, {"a": 1, "b": 0}),
        ("counters", {str(n): n for n in range(9_999)}, {str(n): n for n in range(limits.STATUS_COUNTERS)}),
    ],
)
def test_malformed_fields_become_empty(field: str, said: Any, taken: Any) -> None:
    assert status_from({field: said})[field] == taken  # type: ignore[literal-required]


@pytest.mark.parametrize("columns", [60, 79, 80, 160])
def test_hostile_names_reach_no_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = {name: HOSTILE for name, kind in get_type_hints(NodeStatus).items() if kind is str}
    status_command._show([status_from({**said, "counters": {f"refused_{HOSTILE}": 1}, "keys": [HOSTILE]})], "")
    shown = capsys.readouterr().out
    assert "evil" in shown and "[bold]" in shown
    assert all(c == "\n" or c.isprintable() for c in shown)


def test_narrow_terminals_get_a_block_a_node(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    trouble = "the disk is full; free some space, the document is unchanged, and so on"
    status_command._show([node(trouble=trouble, uptime_s=7200, release="1.2.3"), node(node="beta-2")], "")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[2] == "alpha-1" and "beta-2" in lines
    assert [" ".join(line.split()) for line in lines[4:9]] == [
        "state in step",
        "document none",
        "version 1.2.3",
        "up 2 h",
        "trouble the disk is full; free some space, the document",
    ]


def test_wide_terminals_get_a_table_then_troubles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    status_command._show([node(trouble="full", uptime_s=7200, release="1.2.3", counters={"links_failed": 3})], "")
    table = capsys.readouterr().out
    assert "1.2.3" in table and "2 h" in table
    assert table.splitlines()[-2:] == ["alpha-1: full", "alpha-1 counted: links failed 3"]


def test_lag_is_told_less_what_the_clocks_differ() -> None:
    sender = node(node="beta-2", ahead_s=-300.0)
    receiver = node(lag_s=3900.02, lag_from="beta-2", ahead_s=3600.0)
    assert node_text.lag_text(receiver, [sender, receiver]) == "20 ms"
    assert node_text.lag_text(node(), [sender]) == ""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"age_s": 60.0, "expires_s": 3600.0}, "in 1 h"),
        ({"age_s": 60.0, "expires_s": -120.0, "expired": True}, "2 min ago"),
        ({"age_s": 60.0}, "never"),
        ({}, ""),
    ],
)
def test_expiry_is_told_in_words(said: dict[str, Any], shown: str) -> None:
    assert node_text.expiry_text(node(**said)) == shown


def test_lag_ends_when_the_file_holds_the_change() -> None:
    clock = ManualClock(wall_ms=100_000)
    old = Document.unwritten({}).written({"a": 1}, Stamp(50_000, 0, "alpha-1"), 50_000)
    new = old.updated({"a": 2}, [], Stamp(99_000, 0, "beta-2"), 99_000)
    lag = WriteLag(clock)
    lag.sent(new, 99_900, "beta-2")
    lag.stored(old)
    assert (lag.lag_s, lag.node) == (None, "")
    clock.advance(0.05)
    lag.stored(new)
    assert (lag.lag_s, lag.node) == (0.15, "beta-2")
    clock.advance(9)
    lag.stored(new)
    assert lag.lag_s == 0.15


@pytest.mark.parametrize(("minutes", "left_s"), [(None, None), (0, 0.0), (1, 59.0), ("soon", 0.0)])
def test_seconds_until_expiry_follow_the_time_out(minutes: Any, left_s: float | None) -> None:
    contents = {} if minutes is None else {"time_out_in_minutes": minutes}
    document = Document.unwritten({}).written(contents, Stamp(50_000, 0, "alpha-1"), 50_000)
    assert document.expires_s(51_000) == left_s
    assert Document.unwritten({}).expires_s(51_000) is None
