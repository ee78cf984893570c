"""The contract of `CacheFileChart`, seen from outside: events in, events and a file out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net import limits
from miros_cache_net.cache import read_cache
from miros_cache_net.cache_chart.answers import handed_on
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.errors import PayloadError
from miros_cache_net.events import CACHE, CACHE_DESTROY, CACHE_ERROR, CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.payloads import CacheReadPayload, CacheWritePayload
from miros_cache_net.store.changes import AddressedChange, Modify, update_of
from miros_cache_net.testing import ManualClock
from tests.charts.file_charts import (
    Bench,
    NeverRandom,
    SoonRandom,
    is_writable,
    make_unwritable,
    make_writable,
    names,
    on_disk,
    until,
)
from tests.charts.recorder import Recorder


@pytest.fixture(name="bench")
def new_bench(tmp_path: Path, stopping: Callable[[Any], Any]) -> Bench:
    return Bench(tmp_path, stopping)


# --- files and answers --------------------------------------------------------------------------------


def test_missing_file_is_made_from_the_default(bench: Bench) -> None:
    chart = bench.chart(default_json={"time_out_in_minutes": 30})
    assert on_disk(bench.path) == {"time_out_in_minutes": 30}
    payload = bench.read()
    assert isinstance(payload, CacheReadPayload)
    assert payload[:1] == ({"time_out_in_minutes": 30},)
    assert (payload.last_modified, payload.expired, payload.file_name) == (0.0, True, "cache.json")
    assert (payload.file_path, payload.stale, payload.connected) == (chart.file_path, False, False)


@pytest.mark.parametrize("text", ['{"a": [1, 2]}', {"a": [1, 2]}])
def test_default_json_is_text_or_a_mapping(bench: Bench, text: Any) -> None:
    bench.chart(default_json=text)
    assert bench.read().dict == {"a": [1, 2]}


def test_malformed_default_is_refused_where_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="not JSON"):
        CacheFileChart(tmp_path / "cache.json", default_json="{")
    assert names(tmp_path) == []


def test_later_chart_reads_what_was_written(bench: Bench) -> None:
    first = bench.chart()
    bench.write({"a": 1})
    payload = bench.read()
    assert (payload.dict, payload.expired, payload.origin) == ({"a": 1}, False, first.node)
    assert 0 <= payload.age_s < 60
    first.stop()
    bench.chart()
    assert bench.read().dict == {"a": 1}


def test_discovery_time_is_the_time_of_the_file(bench: Bench, manual_clock: ManualClock) -> None:
    bench.chart(clock=manual_clock)
    bench.write({"a": 1})
    assert bench.read().last_modified == manual_clock.wall_ms() / 1000
    assert bench.path.stat().st_mtime_ns == manual_clock.wall_ms() * 1_000_000


def test_answers_carry_the_signal_name_that_was_given(bench: Bench, recorder: Callable[..., Recorder]) -> None:
    mine = recorder("MY_CACHE")
    bench.chart(system_read_signal_name="MY_CACHE")
    mine.publish(event(CACHE_FILE_READ))
    assert mine.wait_for(1)[0].payload.file_name == "cache.json"
    assert bench.heard.events == []


def test_answer_hands_on_the_stored_snapshot(bench: Bench) -> None:
    chart = bench.chart(watch=True)
    bench.write({"a": 1})
    (cache,) = bench.heard.wait_for(1)
    chart.stop()
    bench.path.unlink()
    snapshot = handed_on(cache)
    assert snapshot is not None
    assert snapshot.document.contents == cache.payload.dict == {"a": 1}
    assert snapshot.document.version == cache.payload.version
    assert handed_on(event(CACHE, cache.payload)) is None, "it comes from no file chart"


def test_an_ordinary_miros_chart_asks_and_is_answered(bench: Bench) -> None:
    bench.chart()
    heard = threading.Event()

    def keep(chart: Any, e: Event) -> Any:
        chart.got = e.payload.dict
        heard.set()
        return return_status.HANDLED

    chart = Factory("plain")
    asking = chart.create(state="asking").catch(signal=signals.CACHE, handler=keep).to_method()
    chart.nest(asking, parent=None)
    chart.subscribe(Event(signal=signals.CACHE))
    chart.start_at(asking)
    chart.publish(Event(signal=signals.CACHE_FILE_WRITE, payload={"plain": True}))
    chart.publish(Event(signal=signals.CACHE_FILE_READ))
    try:
        assert heard.wait(20)
        assert chart.got == {"plain": True}
    finally:
        chart.stop()


# --- states, visible from outside -----------------------------------------------------------------------


def test_states_and_events_are_in_trace_and_spy(bench: Bench) -> None:
    live_trace: list[str] = []
    live_spy: list[str] = []
    chart = bench.chart(live_trace=True, live_spy=True)
    chart.register_live_trace_callback(live_trace.append)
    chart.register_live_spy_callback(live_spy.append)
    bench.write({"a": 1})
    bench.read()
    until(lambda: "read_successful" in str(chart.trace()), "the end of the read")
    trace, spy = str(chart.trace()), "\n".join(chart.spy())
    for line in (
        "e->start_at() top->file_access_waiting",
        "e->file_write() file_access_waiting->file_write",
        "e->write_successful() file_write->file_access_waiting",
        "e->file_read() file_access_waiting->file_read",
        "e->read_successful() file_read->file_access_waiting",
    ):
        assert line in trace
    for line in (
        "CACHE_FILE_WRITE:file_access_waiting",
        "ENTRY_SIGNAL:file_accessed\nENTRY_SIGNAL:file_write",
        "ENTRY_SIGNAL:file_accessed\nENTRY_SIGNAL:file_read",
        "EXIT_SIGNAL:file_read\nEXIT_SIGNAL:file_accessed",
    ):
        assert line in spy
    until(lambda: "read_successful" in "".join(live_trace), "the live trace")
    until(lambda: "EXIT_SIGNAL:file_accessed" in live_spy, "the live spy")


def test_the_file_is_unwritable_inside_and_writable_outside(bench: Bench) -> None:
    inside: list[bool] = []
    chart = bench.chart(connected=lambda: inside.append(is_writable(bench.path)) is None)
    assert bench.read().connected is True
    bench.write({"a": 1})
    bench.read()
    assert inside == [False, False]
    until(lambda: is_writable(bench.path), "the file to be writable again")
    assert chart.running


# --- a file that somebody else holds --------------------------------------------------------------------


def test_unwritable_file_blocks_reads_and_writes(bench: Bench) -> None:
    soon = SoonRandom()
    chart = bench.chart(rng=soon)
    bench.write({"by": "us"})
    bench.read()
    make_unwritable(bench.path)
    bench.write({"by": "us, later"})
    bench.heard.publish(event(CACHE_FILE_READ))
    until(lambda: len(soon.bounds) >= 12, "a dozen failures")
    assert on_disk(bench.path) == {"by": "us"}
    assert len(bench.heard.events) == 1
    spy = "\n".join(chart.spy())
    assert "REPOST:file_write" in spy
    assert "REPOST:file_read" in spy
    make_writable(bench.path)
    bench.caches(2)
    until(lambda: on_disk(bench.path) == {"by": "us, later"}, "the write")


def test_random_wait_grows_with_failures_of_each_event(bench: Bench) -> None:
    soon = SoonRandom()
    chart = bench.chart(rng=soon)
    make_unwritable(bench.path)
    bench.write({"first": 1})
    until(lambda: len(soon.bounds) >= 7, "seven failures")
    assert soon.bounds[:7] == [(0.001, bound) for bound in (0.1, 1.3, 2.5, 3.7, 5.0, 5.0, 5.0)]
    bench.write({"second": 2})
    until(lambda: soon.bounds.count((0.001, 0.1)) == 2, "the second event's own first failure")
    chart.stop()


def test_waiting_events_keep_their_payloads_and_places(bench: Bench) -> None:
    soon = SoonRandom()
    chart = bench.chart(rng=soon)
    make_unwritable(bench.path)

    def append(number: int) -> AddressedChange:
        return AddressedChange(Modify(lambda contents: {"all": [*contents.get("all", []), number]}), chart.file_path)

    for number in range(20):
        chart.post_fifo(event(CACHE_FILE_WRITE, append(number)))
    until(lambda: soon.bounds.count((0.001, 0.1)) == 20, "all to wait")
    make_writable(bench.path)
    chart.post_fifo(event(CACHE_FILE_WRITE, append(20)))
    until(lambda: on_disk(bench.path).get("all", [])[-1:] == [20], "the last to be last")
    bench.read()
    assert on_disk(bench.path) == {"all": list(range(21))}


def test_file_left_unwritable_is_taken_over_and_reported(bench: Bench, manual_clock: ManualClock) -> None:
    soon = SoonRandom()
    bench.chart(rng=soon, clock=manual_clock, take_over_after_s=10)
    make_unwritable(bench.path)
    bench.write({"a": 1})
    until(lambda: soon.bounds, "the first look")
    for _ in range(3):
        manual_clock.advance(3.3)
        looks = len(soon.bounds)
        until(lambda looks=looks: len(soon.bounds) > looks + 1, "another look")
    assert bench.heard.events == []
    manual_clock.advance(0.2)
    (error,) = bench.errors(1)
    assert (error.reason, error.file_name, error.source) == ("taken_over", "cache.json", "cache.json")
    until(lambda: on_disk(bench.path) == {"a": 1} and is_writable(bench.path), "the write")


def test_full_queue_reports_events_that_it_gives_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING_REQUESTS", 3)
    chart = bench.chart(rng=SoonRandom())
    make_unwritable(bench.path)
    for number in range(5):
        chart.post_fifo(event(CACHE_FILE_WRITE, AddressedChange(update_of({f"{number}": 0}), chart.file_path)))
    assert [error.reason for error in bench.errors(2)] == ["overflow", "overflow"]
    make_writable(bench.path)
    until(lambda: on_disk(bench.path) == {"0": 0, "1": 0, "2": 0}, "the three that were kept")


def test_too_many_waiting_writes_leave_the_newest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING_REQUESTS", 3)
    never = NeverRandom()
    chart = bench.chart(rng=never)
    make_unwritable(bench.path)
    for number in range(6):
        chart.post_fifo(event(CACHE_FILE_WRITE, {"n": number}))
    assert [error.reason for error in bench.errors(3)] == ["overflow"] * 3
    until(lambda: len(never.bounds) == 6, "each to wait")
    make_writable(bench.path)
    chart.post_fifo(event(CACHE_FILE_READ))
    chart.stop()
    assert on_disk(bench.path) == {"n": 5}


@pytest.mark.parametrize("last", [CACHE_FILE_WRITE, CACHE_DESTROY])
def test_burst_beyond_queue_ends_with_the_last_event(last: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHART_QUEUE_EVENTS", 8)
    entered, leave = threading.Event(), threading.Event()
    chart, other = bench.chart(), bench.chart(bench.directory / "other.json")

    def hold(contents: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        assert leave.wait(20)
        return contents

    chart.post_fifo(event(CACHE_FILE_WRITE, AddressedChange(Modify(hold), chart.file_path)))
    assert entered.wait(20)
    for number in range(100):
        bench.write(CacheWritePayload({"n": number}, chart.file_path))
    bench.heard.publish(event(last, {"last": True} if last == CACHE_FILE_WRITE else None))
    bench.write(CacheWritePayload({"of": "the other"}, other.file_path))
    bench.write(CacheWritePayload("no document", chart.file_path))
    bench.heard.publish(event(CACHE_ERROR, "all was handed round"))
    bench.heard.wait_for(lambda events: any(e.payload == "all was handed round" for e in events))
    leave.set()

    until(lambda: on_disk(bench.path) == ({"last": True} if last == CACHE_FILE_WRITE else {}), "the last one")
    until(lambda: on_disk(other.path) == {"of": "the other"}, "that of the other")
    assert "overflow" in [getattr(e.payload, "reason", "") for e in bench.heard.events]
    # eight waited, and the last one in a place of its own; what was no document and what was the other's found none
    assert chart.refused_events == 100 - 8 + 2


def test_waiting_write_is_posted_again_into_full_queue(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHART_QUEUE_EVENTS", 4)
    monkeypatch.setattr(limits, "BACKOFF_LEAST_S", 0.3)
    busy, go_on = threading.Event(), threading.Event()

    def keep_busy(_chart: Any, e: Event) -> int:
        busy.set()
        assert go_on.wait(20)
        return int(return_status.HANDLED)

    chart = bench.chart(rng=SoonRandom())
    chart.states["file_access_waiting"].catch(signal="KEEP_BUSY", handler=keep_busy)
    make_unwritable(bench.path)
    chart.post_fifo(event(CACHE_FILE_WRITE, {"a": 1}))
    until(lambda: "REPOST:file_write" in "".join(chart.spy()), "the write to wait")
    before = chart.spy().count("POST_FIFO:file_write")
    chart.post_fifo(event("KEEP_BUSY"))
    assert busy.wait(20)
    for _ in range(10):
        chart.post_fifo(event("NOBODY_KNOWS_IT"))
    until(lambda: chart.spy().count("POST_FIFO:file_write") > before, "the write to be posted again")
    make_writable(bench.path)
    go_on.set()
    until(lambda: on_disk(bench.path) == {"a": 1}, "the write")


def test_file_may_be_named_by_any_path(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = bench.chart()
    bench.chart(tmp_path / "other.json")
    (tmp_path / "linked").symlink_to(bench.directory, target_is_directory=True)
    monkeypatch.chdir(bench.directory)
    ways = (
        chart.file_path,
        "cache.json",
        "./cache.json",
        f"{bench.directory}/nowhere/../cache.json",
        tmp_path / "linked" / "cache.json",
    )
    for number, way in enumerate(ways):
        bench.write(CacheWritePayload({"n": number}, way))
        until(lambda number=number: on_disk(bench.path) == {"n": number}, f"the write to {way}")
        assert bench.read(payload=way).dict == {"n": number}


def test_waiting_requests_go_on_when_another_chart_leaves(bench: Bench, tmp_path: Path) -> None:
    never = NeverRandom()
    chart, other = bench.chart(rng=never), bench.chart()
    entered, leave = threading.Event(), threading.Event()

    def hold(contents: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        assert leave.wait(20)
        return {**contents, "held": True}

    other.post_fifo(event(CACHE_FILE_WRITE, AddressedChange(Modify(hold), other.file_path)))
    assert entered.wait(20)
    chart.post_fifo(event(CACHE_FILE_READ))
    chart.post_fifo(event(CACHE_FILE_WRITE, {"after": 1}))
    until(lambda: len(never.bounds) >= 2, "both to wait")
    leave.set()
    bench.caches(1)
    until(lambda: on_disk(bench.path) == {"after": 1}, "the write")


# --- what a write may carry, and which chart it is for ----------------------------------------------------


def test_bare_dict_goes_to_the_first_writable_chart(bench: Bench) -> None:
    bench.chart(bench.directory / "looked_at.json", read_only=True)
    bench.chart(bench.directory / "first.json")
    bench.chart(bench.directory / "second.json")
    bench.write({"a": 1})
    until(lambda: on_disk(bench.directory / "first.json") == {"a": 1}, "the write")
    assert on_disk(bench.directory / "second.json") == {}
    assert "looked_at.json" not in names(bench.directory)


@pytest.mark.parametrize("contents", ['{"a": 1}', b'{"a": 1}', {"a": 1}], ids=["text", "bytes", "mapping"])
@pytest.mark.parametrize("by_path", [True, False])
def test_write_names_its_file_by_path_or_name(bench: Bench, contents: Any, by_path: bool) -> None:
    bench.chart(bench.directory / "default.json")
    bench.chart()
    bench.write(CacheWritePayload(contents, str(bench.path) if by_path else "cache.json"))
    until(lambda: on_disk(bench.path) == {"a": 1}, "the write")
    assert on_disk(bench.directory / "default.json") == {}


def test_ambiguous_base_name_is_refused_once(bench: Bench) -> None:
    for name in ("one", "two"):
        (bench.directory / name).mkdir()
        bench.chart(bench.directory / name / "same.json")
    bench.write(CacheWritePayload("{}", "same.json"))
    bench.write(CacheWritePayload('{"a": 2}', str(bench.directory / "two" / "same.json")))
    until(lambda: on_disk(bench.directory / "two" / "same.json") == {"a": 2}, "the write by path")
    assert [error.reason for error in bench.errors(1)] == ["ambiguous"]
    assert "two/same.json; give the path" in bench.errors(1)[0].message
    assert len(bench.heard.events) == 1
    assert on_disk(bench.directory / "one" / "same.json") == {}


def test_posted_event_is_for_the_chart_it_reaches(bench: Bench) -> None:
    bench.chart(bench.directory / "default.json")
    second = bench.chart()
    second.post_fifo(event(CACHE_FILE_WRITE, {"posted": 1}))
    second.post_fifo(event(CACHE_FILE_READ))
    (payload,) = bench.caches(1)
    until(lambda: on_disk(bench.path) == {"posted": 1}, "the write")
    assert payload.file_name == "cache.json"
    second.post_fifo(event(CACHE_DESTROY))
    until(lambda: on_disk(bench.path) == {}, "its end")
    assert on_disk(bench.directory / "default.json") == {}


def test_every_chart_answers_a_published_read_without_payload(bench: Bench) -> None:
    bench.chart(bench.directory / "one.json")
    bench.chart(bench.directory / "two.json")
    bench.heard.publish(event(CACHE_FILE_READ))
    assert sorted(payload.file_name for payload in bench.caches(2)) == ["one.json", "two.json"]


def test_read_that_names_a_file_gets_one_answer(bench: Bench) -> None:
    bench.chart(bench.directory / "one.json")
    bench.chart(bench.directory / "two.json")
    bench.heard.publish(event(CACHE_FILE_READ, "two.json"))
    bench.heard.publish(event(CACHE_FILE_READ, str(bench.directory / "one.json")))
    assert sorted(payload.file_name for payload in bench.caches(2)) == ["one.json", "two.json"]
    assert len(bench.heard.events) == 2


def test_two_charts_on_one_file_share_it(bench: Bench) -> None:
    one, two = bench.chart(), bench.chart()
    one.post_fifo(event(CACHE_FILE_WRITE, {"n": 1}))
    until(lambda: on_disk(bench.path) == {"n": 1}, "the first write")
    two.post_fifo(event(CACHE_FILE_WRITE, {"n": 2}))
    until(lambda: on_disk(bench.path) == {"n": 2}, "the second write")
    one.post_fifo(event(CACHE_FILE_READ))
    assert bench.caches(1)[0].dict == {"n": 2}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (None, "not NoneType"),
        (7, "not int"),
        ([1], "not list"),
        ({"a": {1, 2}}, "['a'] is a set"),
        ({"a": float("nan")}, "nan"),
        ({1: 2}, "keys must be strings"),
        (CacheWritePayload("{", "cache.json"), "not JSON"),
        (CacheWritePayload("[1]", "cache.json"), "a JSON object"),
        (CacheWritePayload(b'{"a": "\xff"}', "cache.json"), "UTF-8"),
        (CacheWritePayload("{}", "elsewhere.json"), "no chart of this process guards 'elsewhere.json'"),
        ({"a": "x" * (limits.DOCUMENT_BYTES + 1)}, "more than"),
    ],
)
def test_unwritable_payload_is_an_error_and_changes_nothing(bench: Bench, payload: Any, words: str) -> None:
    bench.chart()
    bench.write({"good": 1})
    bench.write(payload)
    (error,) = bench.errors(1)
    assert error.reason == "payload"
    assert words in error.message
    assert "\n" not in error.message
    assert bench.read().dict == {"good": 1}


def test_impossible_write_does_not_spoil_the_others(bench: Bench) -> None:
    chart = bench.chart(rng=SoonRandom())
    make_unwritable(bench.path)
    for payload in ({"n": 1}, {"big": "x" * (limits.DOCUMENT_BYTES + 1)}):
        chart.post_fifo(event(CACHE_FILE_WRITE, payload))
    until(lambda: "REPOST:file_write" in "".join(chart.spy()), "the wait")
    make_writable(bench.path)
    assert bench.errors(1)[0].reason == "payload"
    until(lambda: on_disk(bench.path) == {"n": 1}, "the good one")


def test_read_only_chart_answers_and_refuses_writes(bench: Bench) -> None:
    bench.path.write_text('{"a": 1}')
    chart = bench.chart(read_only=True)
    assert bench.read().dict == {"a": 1}
    chart.post_fifo(event(CACHE_FILE_WRITE, {"b": 2}))
    chart.post_fifo(event(CACHE_DESTROY))
    assert [error.reason for error in bench.errors(2)] == ["payload", "payload"]
    assert bench.path.read_text() == '{"a": 1}'


def test_destroy_empties_the_document_and_leaves_it_expired(bench: Bench) -> None:
    bench.chart(default_json={"default": True})
    bench.write({"a": 1})
    assert bench.read().dict == {"a": 1}
    bench.destroy()
    payload = bench.read()
    assert (payload.dict, payload.expired, payload.last_modified) == ({}, True, 0.0)
    assert on_disk(bench.path) == {}


# --- expiry ---------------------------------------------------------------------------------------------

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("minutes", "after_s", "expired"),
    [
        (30, 29 * 60, False),
        (30, 30 * 60, False),
        (30, 30 * 60 + 1, True),
        (0.5, 29, False),
        (0.5, 31, True),
        (0, 0, True),
        (-5, 0, True),
        (10**300, 10**9, False),
        ("30", 0, True),
        (None, 0, True),
        (True, 0, True),
        ([], 0, True),
    ],
)
def test_age_counts_against_the_documents_time_out(
    bench: Bench, manual_clock: ManualClock, minutes: Any, after_s: float, expired: bool
) -> None:
    bench.chart(clock=manual_clock)
    bench.write({"time_out_in_minutes": minutes})
    bench.read()
    manual_clock.advance(after_s)
    payload = bench.read()
    assert (payload.expired, payload.age_s) == (expired, after_s)


def test_written_document_without_time_out_never_expires(bench: Bench, manual_clock: ManualClock) -> None:
    bench.chart(clock=manual_clock)
    assert bench.read().expired is True
    bench.write({"a": 1})
    bench.read()
    manual_clock.advance(100 * 365 * 86_400)
    assert bench.read().expired is False


@pytest.mark.parametrize(
    ("jump_ms", "age_s", "expired"), [(DAY_MS, 86_400.0, True), (-30_000, 0.0, False), (-DAY_MS, 0.0, True)]
)
def test_jumping_clock_never_makes_an_age_negative(
    bench: Bench, manual_clock: ManualClock, jump_ms: int, age_s: float, expired: bool
) -> None:
    bench.chart(clock=manual_clock)
    bench.write({"time_out_in_minutes": 60})
    bench.read()
    manual_clock.jump_wall(jump_ms)
    payload = bench.read()
    assert (payload.age_s, payload.expired) == (age_s, expired)


def test_write_after_clock_set_back_still_replaces(bench: Bench, manual_clock: ManualClock) -> None:
    chart = bench.chart(clock=manual_clock)
    bench.write({"n": 1})
    bench.read()
    before = chart.document()
    manual_clock.jump_wall(-DAY_MS)
    bench.write({"n": 2})
    assert bench.read().dict == {"n": 2}
    assert before.merged(chart.document()).contents == {"n": 2}


# --- bad files --------------------------------------------------------------------------------------------

BAD_FILES = {
    "empty": b"",
    "white space": b" \n",
    "corrupt": b"\x00\x01\x02",
    "truncated": b'{"a": [1, 2',
    "huge": b'{"a":"' + b"x" * limits.DOCUMENT_BYTES + b'"}',
    "deep": b'{"a":' * 200 + b"1" + b"}" * 200,
    "very deep": b"[" * 100_000,
    "duplicate key": b'{"a": 1, "a": 2}',
    "nan": b'{"a": NaN}',
    "infinite": b'{"a": 1e999}',
    "no object": b"[1, 2]",
    "not utf-8": b'{"a": "\xff"}',
    "half a surrogate": b'{"a": "\\ud800"}',
    "two documents": b'{"a": 1}{"a": 2}',
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_set_aside_for_the_default(bench: Bench, kind: str) -> None:
    bench.path.write_bytes(BAD_FILES[kind])
    bench.chart(default_json={"fresh": True})
    (error,) = bench.errors(1)
    assert (error.reason, error.file_name) == ("malformed", "cache.json")
    (aside,) = [name for name in names(bench.directory) if ".corrupt-" in name]
    assert aside in error.message
    assert aside.startswith("cache.json.corrupt-")
    assert (bench.directory / aside).read_bytes() == BAD_FILES[kind]
    assert is_writable(bench.directory / aside)
    payload = bench.read()
    assert (payload.dict, payload.expired) == ({"fresh": True}, True)


def test_running_chart_sets_aside_file_gone_bad(bench: Bench) -> None:
    bench.chart()
    bench.write({"a": 1})
    bench.read()
    bench.path.write_bytes(b"garbage")
    assert bench.read().dict == {}
    assert bench.errors(1)[0].reason == "malformed"
    assert b"garbage" in [(bench.directory / name).read_bytes() for name in names(bench.directory)]


def test_files_set_aside_cannot_fill_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SET_ASIDE_FILES", 2)
    bench.chart()
    for number in range(3):
        bench.path.write_bytes(b"garbage %d" % number)
        bench.read()
    errors = bench.errors(3)
    assert [error.reason for error in errors] == ["malformed"] * 3
    assert ["removed files set aside earlier" in error.message for error in errors] == [False, False, True]
    kept = [(bench.directory / name).read_bytes() for name in names(bench.directory) if ".corrupt-" in name]
    assert sorted(kept) == [b"garbage 0", b"garbage 2"]


def test_document_of_newer_release_is_left_alone(bench: Bench) -> None:
    text = json.dumps({"a": 1, "_miros_cache_net": {"format": 999}})
    bench.path.write_text(text)
    bench.chart()
    assert bench.errors(1)[0].reason == "refused"
    assert bench.path.read_text() == text
    assert names(bench.directory) == [".cache.json.lock", "cache.json"]


# --- life ---------------------------------------------------------------------------------------------------


def test_stop_reports_what_waited_and_leaves_strangers_file(bench: Bench) -> None:
    chart = bench.chart(rng=SoonRandom())
    make_unwritable(bench.path)
    for number in range(2):
        chart.post_fifo(event(CACHE_FILE_WRITE, {"n": number}))
    chart.post_fifo(event(CACHE_FILE_READ))
    until(lambda: "REPOST:file_read" in "".join(chart.spy()), "all to wait")
    chart.stop()
    (error,) = bench.errors(1)
    assert (error.reason, "2 writes and 1 reads" in error.message) == ("stopped", True)
    assert not is_writable(bench.path)


def test_a_stopped_chart_hears_nothing_any_more(bench: Bench) -> None:
    chart = bench.chart()
    chart.stop()
    assert is_writable(bench.path)
    bench.chart(bench.directory / "other.json")
    bench.heard.publish(event(CACHE_FILE_READ))
    bench.write({"a": 1})
    until(lambda: on_disk(bench.directory / "other.json") == {"a": 1}, "the write of the other")
    assert [payload.file_name for payload in bench.caches(1)] == ["other.json"]
    assert len(bench.heard.events) == 1
    assert on_disk(bench.path) == {}


def test_stop_inside_the_access_frees_file_and_lock(bench: Bench) -> None:
    charts: list[CacheFileChart] = []

    def stop_inside() -> bool:
        charts[0].stop()
        return True

    charts.append(bench.chart(connected=stop_inside))
    charts[0].post_fifo(event(CACHE_FILE_READ))
    until(lambda: not charts[0].running, "the stop")
    until(lambda: is_writable(bench.path), "the file to be writable")
    bench.chart()
    assert bench.read().dict == {}


def test_a_stopped_chart_starts_again(bench: Bench) -> None:
    chart = bench.chart()
    chart.stop()
    chart.start_at("file_access_waiting")
    bench.write({"again": 1})
    assert bench.read().dict == {"again": 1}


def test_error_inside_the_access_gives_back_the_lock(bench: Bench) -> None:
    answers = [RuntimeError("no link"), RuntimeError("no link")]

    def connected() -> bool:
        if answers:
            raise answers.pop()
        return True

    chart = bench.chart(connected=connected)
    chart.post_fifo(event(CACHE_FILE_READ))
    assert bench.errors(1)[0].reason == "handler"
    until(lambda: is_writable(bench.path), "the file to be writable")
    assert bench.read().connected is True


def test_the_chart_survives_whatever_is_posted_to_it(bench: Bench) -> None:
    chart = bench.chart()
    for name in (CACHE_ERROR, CACHE, "lock_granted", "file_changed", "read_successful", "access_failed", "NONSENSE"):
        chart.post_fifo(event(name, object()))
    assert bench.read().dict == {}


def test_stop_serves_what_was_posted_before(bench: Bench) -> None:
    chart = bench.chart()
    for number in range(50):
        chart.post_fifo(event(CACHE_FILE_WRITE, {"n": number}))
    chart.stop()
    assert read_cache(chart.path).dict == {"n": 49}
