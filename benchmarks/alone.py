"""One process: plain reads, the chart's answers, durable writes."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from benchmarks.contenders import ALL, Bare, Contender, Ours
from benchmarks.document import DOCUMENT
from benchmarks.measure import Line, best_us, side_by_side_us
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.payloads import CacheWritePayload
from miros_cache_net.store.reader import SnapshotReader


def plain_reads(directory: Path) -> list[Line]:
    """Unchanged: against one stat.  Changed: against open, read and parse."""
    ours = Ours(directory)
    ours.write(DOCUMENT)
    bare = Bare(directory)
    reader = SnapshotReader(ours.path)

    def read_changed() -> None:
        reader.close()
        reader.read()

    stat_us = best_us(lambda: os.stat(ours.path), 20_000)
    lines = [
        Line("plain read, unchanged", best_us(ours.read, 20_000), stat_us, "us", "<= 3", "against one os.stat"),
        Line(
            "plain read, changed",
            best_us(read_changed, 10_000),
            best_us(bare.read, 10_000),
            "us",
            "<= 1.5",
            "against open, read, parse",
        ),
    ]
    reader.close()
    ours.close()
    return lines


def reads_side_by_side(directory: Path) -> list[Line]:
    """One reader of an unchanged document."""
    return _side_by_side(directory, "read", 3_000, lambda contender: contender.read)


def writes_side_by_side(directory: Path) -> list[Line]:
    """One writer."""
    return _side_by_side(directory, "durable write", 150, lambda contender: lambda: contender.write(DOCUMENT))


def _side_by_side(directory: Path, what: str, times: int, call: Callable[[Contender], Callable[[], Any]]) -> list[Line]:
    contenders = []
    for kind in [*ALL, Bare]:
        (directory / kind.__name__).mkdir(exist_ok=True)
        contenders.append(kind(directory / kind.__name__))
        contenders[-1].write(DOCUMENT)
    medians = side_by_side_us([call(contender) for contender in contenders], times)
    for contender in contenders:
        contender.close()
    return [
        Line(f"{what}, one process", medians[0], median, "us", note=f"against {contender.name}")
        for contender, median in list(zip(contenders, medians, strict=True))[1:]
    ]


class Asker:
    """A bare miros chart that publishes a signal and waits for another."""

    def __init__(self, name: str, answer: str) -> None:
        self._came = threading.Event()
        self._chart = Factory(name)
        state = self._chart.create(state="asking").catch(signal=answer_number(answer), handler=self._hear).to_method()
        self._chart.nest(state, parent=None)
        self._chart.subscribe(Event(signal=answer))
        self._chart.start_at(state)

    def _hear(self, e: Event) -> Any:
        self._came.set()
        return return_status.HANDLED

    def ask(self, signal: str, payload: Any = None) -> None:
        self._came.clear()
        self._chart.publish(Event(signal=signal, payload=payload))
        if not self._came.wait(30):
            raise TimeoutError(f"no answer to {signal}")

    def stop(self) -> None:
        self._chart.stop()


def answer_number(name: str) -> int:
    signals.append(name)
    return int(signals[name])


def charts(directory: Path) -> list[Line]:
    """CACHE_FILE_READ to CACHE, and CACHE_FILE_WRITE to CACHE, beside a bare ping-pong: one file chart at a time."""
    pong = Factory("pong")
    state = pong.create(state="answering")
    state.catch(signal=answer_number("PING"), handler=_answer)
    pong.nest(state.to_method(), parent=None)
    pong.subscribe(Event(signal="PING"))
    pong.start_at(state.to_method())
    pinging, asking = Asker("pinging", "PONG"), Asker("asking", "CACHE")
    lines = [_chart_reads(directory / "reads", pinging, asking), _chart_writes(directory / "writes", pinging, asking)]
    for chart in (pinging, asking, pong):
        chart.stop()
    return lines


def _chart_reads(directory: Path, pinging: Asker, asking: Asker) -> Line:
    bare = _bare(directory)
    chart = CacheFileChart(directory / "ours.json", default_json=DOCUMENT)
    ours_us, ping_us, bare_us = side_by_side_us(
        [lambda: asking.ask("CACHE_FILE_READ", chart.file_path), lambda: pinging.ask("PING"), bare.read], 1_000
    )
    chart.stop()
    note = "against bare miros ping-pong + bare read"
    return Line("CACHE_FILE_READ to CACHE", ours_us, ping_us + bare_us, "us", "<= 2", note)


def _chart_writes(directory: Path, pinging: Asker, asking: Asker) -> Line:
    bare = _bare(directory)
    # a source of changes that never tells of any: CACHE is published by the write itself
    chart = CacheFileChart(directory / "ours.json", watch=lambda path, changed: _NoWatch())
    numbers = itertools.count()

    def write() -> None:
        asking.ask("CACHE_FILE_WRITE", CacheWritePayload({**DOCUMENT, "n": next(numbers)}, chart.file_path))

    ours_us, ping_us, bare_us = side_by_side_us(
        [write, lambda: pinging.ask("PING"), lambda: bare.write({**DOCUMENT, "n": next(numbers)})], 400
    )
    chart.stop()
    note = "against bare miros ping-pong + bare write"
    return Line("CACHE_FILE_WRITE to CACHE", ours_us, ping_us + bare_us, "us", "<= 2", note)


def _bare(directory: Path) -> Bare:
    directory.mkdir()
    bare = Bare(directory)
    bare.write(DOCUMENT)
    return bare


class _NoWatch:
    def close(self) -> None:
        pass


def _answer(chart: Any, e: Event) -> Any:
    chart.publish(Event(signal="PONG"))
    return return_status.HANDLED
