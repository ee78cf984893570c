"""The line of those who wait for the file: bounded, and what it gives up is what means least."""

from __future__ import annotations

import pytest

from miros_cache_net.cache_chart.requests import Request, WaitingLine
from miros_cache_net.document.value import ZERO
from miros_cache_net.store.changes import Beginning, Change, Destroy, update_of, write_of


@pytest.fixture
def line() -> WaitingLine:
    return WaitingLine(places=2)


@pytest.mark.parametrize("newest", [write_of({"n": 3}), Destroy()])
def test_full_line_drops_oldest_whole_write_for_newer(line: WaitingLine, newest: Change) -> None:
    cancelled: list[str] = []
    update, write, last = Request(update_of({"a": 1})), Request(write_of({"n": 1})), Request(newest)
    write.cancel_repost = lambda: cancelled.append("write")
    assert line.add(update) is line.add(write) is None

    assert line.add(last) is write
    assert write.settled
    assert cancelled == ["write"]
    assert line.take_with(update) == [update, last]


@pytest.mark.parametrize("newest", [update_of({"a": 1}), write_of({"n": 3}, began=Beginning(ZERO, ZERO, 0)), None])
def test_full_line_refuses_what_keeps_earlier_writes(line: WaitingLine, newest: Change | None) -> None:
    first, second, last = Request(write_of({"n": 1})), Request(write_of({"n": 2})), Request(newest)
    line.add(first)
    line.add(second)

    assert line.add(last) is last
    assert line.add(first) is None, "it has its place"
    assert line.take_with(first) == [first, second]


def test_full_line_of_updates_drops_none_of_them(line: WaitingLine) -> None:
    line.add(Request(update_of({"a": 1})))
    line.add(Request(update_of({"b": 1})))
    write = Request(write_of({"n": 1}))
    assert line.add(write) is write
