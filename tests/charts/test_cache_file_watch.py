"""`watch=True`: every chart that asked publishes the document when anybody, anywhere on the host, has changed it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.cache import Cache
from miros_cache_net.document.layout import META_KEY
from miros_cache_net.events import CACHE, CACHE_FILE_WRITE, event
from miros_cache_net.store import inotify_watch
from tests.charts.file_charts import Bench, make_unwritable, make_writable, on_disk, until


@pytest.fixture(name="bench")
def new_bench(tmp_path: Path, stopping: Callable[[Any], Any]) -> Bench:
    return Bench(tmp_path, stopping)


def last_published(bench: Bench) -> Any:
    payloads = [e.payload for e in bench.heard.events if e.signal_name == CACHE]
    return payloads[-1].dict if payloads else None


def test_a_change_by_another_process_is_published(bench: Bench) -> None:
    bench.chart(watch=True)
    child = os.fork()
    if child == 0:
        Cache(bench.path).write({"by": "another"})
        os._exit(0)
    os.waitpid(child, 0)
    (payload,) = bench.caches(1)
    assert (payload.dict, payload.expired) == ({"by": "another"}, False)


def test_change_by_the_chart_is_published_once(bench: Bench) -> None:
    chart = bench.chart(watch=True)
    for number in range(3):
        chart.post_fifo(event(CACHE_FILE_WRITE, {"n": number}))
        until(lambda number=number: last_published(bench) == {"n": number}, "its publication")
    bench.read()
    assert [payload.dict["n"] for payload in bench.caches(4)] == [0, 1, 2, 2]
    assert len(bench.heard.events) == 4


def test_nothing_is_published_without_watch_or_change(bench: Bench) -> None:
    with Cache(bench.path) as cache:
        cache.write({"a": 1})
        bench.chart()
        watching = bench.chart(watch=True)
        cache.modify(lambda contents: contents)
        os.utime(bench.path, ns=(0, bench.path.stat().st_mtime_ns))
        watching.post_fifo(event(CACHE_FILE_WRITE, {"a": 2}))
        until(lambda: last_published(bench) == {"a": 2}, "the change")
    assert len(bench.heard.events) == 1


def test_burst_is_coalesced_and_the_latest_published(bench: Bench) -> None:
    chart = bench.chart(watch=True)
    make_unwritable(bench.path)
    for number in range(200):
        chart.post_fifo(event(CACHE_FILE_WRITE, {"n": number}))
    until(lambda: "".join(chart.spy()).count("REPOST") >= 1, "the first to wait")
    make_writable(bench.path)
    until(lambda: last_published(bench) == {"n": 199}, "the latest")
    assert len(bench.heard.events) < 200


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def in_place_with_a_lock(path: Path, text: str) -> None:
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate()
        file.write(text)


def by_rename(path: Path, text: str) -> None:
    new = path.with_name("stranger.tmp")
    new.write_text(text)
    new.rename(path)


@pytest.mark.parametrize("write", [in_place, in_place_with_a_lock, by_rename])
def test_foreign_plain_json_is_published_stamped_and_kept(bench: Bench, write: Callable[[Path, str], None]) -> None:
    chart = bench.chart(watch=True)
    chart.post_fifo(event(CACHE_FILE_WRITE, {"by": "us"}))
    until(lambda: last_published(bench) == {"by": "us"}, "our write")
    until(lambda: bench.path.stat().st_mode & 0o222, "the chart to leave")
    for number in range(3):
        write(bench.path, json.dumps({"by": "a stranger", "n": number}))
        until(lambda number=number: last_published(bench) == {"by": "a stranger", "n": number}, "his write")
        until(lambda: META_KEY in json.loads(bench.path.read_text()), "its stamp")
        until(lambda: bench.path.stat().st_mode & 0o222, "the chart to leave")
    assert chart.document().origin == chart.node
    assert on_disk(bench.path) == {"by": "a stranger", "n": 2}


def test_a_file_that_was_removed_is_made_again(bench: Bench) -> None:
    chart = bench.chart(watch=True, default_json={"default": 1})
    chart.post_fifo(event(CACHE_FILE_WRITE, {"a": 1}))
    until(lambda: last_published(bench) == {"a": 1}, "the write")
    until(lambda: bench.path.stat().st_mode & 0o222, "the chart to leave")
    bench.path.unlink()
    until(lambda: last_published(bench) == {"default": 1}, "the default")
    assert on_disk(bench.path) == {"default": 1}


def test_beyond_the_kernels_limit_changes_are_noticed_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(inotify_watch, "INotify", refused)
    monkeypatch.setattr(limits, "SLOW_STAT_S", 0.01)
    bench.chart(watch=True)
    with Cache(bench.path) as cache:
        cache.write({"a": 1})
    assert bench.caches(1)[0].dict == {"a": 1}


def test_a_stopped_chart_publishes_no_changes_any_more(bench: Bench) -> None:
    chart = bench.chart(watch=True)
    chart.stop()
    bench.chart(watch=True)
    with Cache(bench.path) as cache:
        cache.write({"a": 1})
    bench.caches(1)
    bench.read()
    assert len(bench.heard.events) == 2
