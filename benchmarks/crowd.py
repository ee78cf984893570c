"""Many processes on one document: throughput, fairness, lost updates, waiting times."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import ALL, Bare, Contender, DiskCache, FileLockJson, Flock, Lmdb, ModeBit, Ours, SqliteWal
from benchmarks.document import DOCUMENT
from benchmarks.measure import Line, percentile

#: What does not end by itself is ended: the protocols that starve processes do so for minutes.
PATIENCE_S = 60.0


@dataclass
class Crowd:
    """What a crowd did.

    done       operations of each process
    cpu_s      from the moment they began, without being forked
    writes_ms  how long each write took, waiting included
    failures   operations that raised
    """

    name: str
    done: list[int] = field(default_factory=list)
    writes_ms: list[float] = field(default_factory=list)
    failures: int = 0
    unfinished: int = 0
    took_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def per_second(self) -> float:
        return sum(self.done) / self.took_s if self.took_s else 0.0

    @property
    def p99_ms(self) -> float:
        return percentile(self.writes_ms, 0.99)

    def told(self) -> str:
        least, most = min(self.done, default=0), max(self.done, default=0)
        return (
            f"{self.name}: {sum(self.done)} operations in {self.took_s:.2f} s, {self.cpu_s:.2f} s CPU, "
            f"{least} to {most} a process, write p99 {self.p99_ms:.1f} ms, {self.failures} failed, "
            f"{self.unfinished} processes never done"
        )


Work = Callable[[Contender, Crowd, random.Random], None]


def run(kind: type[Contender], directory: Path, processes: int, work: Work) -> Crowd:
    """Fork so many processes, let them begin together, and put together what they tell."""
    directory.mkdir()
    first = kind(directory)
    first.write(DOCUMENT)
    first.close()
    gate_reader, gate_writer = os.pipe()
    pids = [_fork(kind, directory, number, work, gate_reader, gate_writer) for number in range(processes)]
    os.close(gate_reader)
    time.sleep(0.5 + processes / 100)
    began = time.monotonic()
    os.close(gate_writer)
    crowd = Crowd(kind.name)
    crowd.unfinished = _wait(pids, began + PATIENCE_S)
    crowd.took_s = time.monotonic() - began
    for told in directory.glob("told-*"):
        done, writes_ms, failures, cpu_s = json.loads(told.read_text())
        crowd.cpu_s += cpu_s
        crowd.done.append(done)
        crowd.writes_ms += writes_ms
        crowd.failures += failures
    return crowd


def _fork(kind: type[Contender], directory: Path, number: int, work: Work, gate_reader: int, gate_writer: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.close(gate_writer)
    told = Crowd(kind.name)
    try:
        _warm_up(kind, directory / f"own-{number}")
        contender = kind(directory)
        os.read(gate_reader, 1)
        before_s = time.process_time()
        work(contender, told, random.Random(number))
        cpu_s = time.process_time() - before_s
        text = json.dumps([sum(told.done), told.writes_ms, told.failures, cpu_s])
        (directory / f"told-{number}").write_text(text)
    except BaseException as error:
        print(f"{kind.name}: {error!r}", file=sys.stderr)
    finally:
        os._exit(0)


def _warm_up(kind: type[Contender], directory: Path) -> None:
    """A write of its own: what a forked process pays once for its copied pages is not what is measured."""
    directory.mkdir()
    alone = kind(directory)
    alone.write(DOCUMENT)
    alone.read()
    alone.close()


def _wait(pids: list[int], deadline_s: float) -> int:
    left = set(pids)
    while left and time.monotonic() < deadline_s:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        left.discard(pid)
        if not pid:
            time.sleep(0.002)
    for pid in left:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return len(left)


def _timed(told: Crowd, function: Callable[[], Any]) -> None:
    began = time.perf_counter()
    try:
        function()
    except Exception:
        told.failures += 1
    told.writes_ms.append((time.perf_counter() - began) * 1000)


def one_more(contents: dict[str, Any]) -> dict[str, Any]:
    return {**contents, "n": contents.get("n", 0) + 1}


def mixed(seconds: float) -> Work:
    """95 % reads, 5 % writes, as fast as it goes."""

    def work(contender: Contender, told: Crowd, rng: random.Random) -> None:
        until, done = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            if rng.random() < 0.05:
                _timed(told, lambda: contender.write(DOCUMENT))
            else:
                contender.read()
                done += 1
        told.done.append(done)

    return work


def now_and_then(seconds: float, writes: int) -> Work:
    """So many writes each, at random moments."""

    def work(contender: Contender, told: Crowd, rng: random.Random) -> None:
        began = time.monotonic()
        for moment in sorted(rng.uniform(0, seconds) for _ in range(writes)):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            _timed(told, lambda: contender.write(DOCUMENT))
        told.done.append(writes)

    return work


def counting(times: int) -> Work:
    """Read, modify and write, so often."""

    def work(contender: Contender, told: Crowd, rng: random.Random) -> None:
        for _ in range(times):
            _timed(told, lambda: contender.modify(one_more))
        told.done.append(times)

    return work


def updating(times: int) -> Work:
    """A key of one's own, again and again without a pause: the document grows with the crowd."""

    def work(contender: Contender, told: Crowd, rng: random.Random) -> None:
        key = f"writer{rng.randrange(10**9)}"
        for number in range(times):
            _timed(told, lambda number=number: contender.update(key, number))  # type: ignore[misc]
        told.done.append(times)

    return work


def one_read(contender: Contender, told: Crowd, rng: random.Random) -> None:
    """What a program that starts does."""
    contender.read()
    told.done.append(1)


def rounds(kinds: list[type[Contender]], directory: Path, processes: int, work: Work) -> dict[type[Contender], Crowd]:
    """Three runs of each, in turns, since a machine is not equally busy all the time; the one in the middle counts."""
    crowds: dict[type[Contender], list[Crowd]] = {kind: [] for kind in kinds}
    for number in range(3):
        for kind in kinds:
            crowds[kind].append(_told(run(kind, directory / f"{kind.__name__}-{number}", processes, work)))
    return {kind: sorted(each, key=lambda crowd: crowd.p99_ms)[1] for kind, each in crowds.items()}


def readers_and_writers(directory: Path, processes: int = 100, seconds: float = 3.0) -> list[Line]:
    """95 % reads."""
    crowds = rounds(ALL, directory, processes, mixed(seconds))
    ours = crowds[Ours]
    lines = [
        Line(
            f"reads/s, {processes} processes, 5 % writes",
            ours.per_second,
            crowds[kind].per_second,
            "/s",
            ">= 1" if kind in (FileLockJson, DiskCache) else "",
            f"against {kind.name}",
        )
        for kind in ALL[1:]
    ]
    return lines + [
        Line(
            f"write p99, {processes} processes, 5 % writes",
            ours.p99_ms,
            crowds[kind].p99_ms,
            "ms",
            "<= 1" if kind in (FileLockJson, DiskCache) else "",
            f"against {kind.name}",
        )
        for kind in ALL[1:]
    ]


def paced_writers(directory: Path, processes: int = 1000, seconds: float = 10.0, writes: int = 1) -> list[Line]:
    """A thousand processes that each write now and then."""
    # not diskcache: it takes all CPUs for minutes and then fails
    kinds: list[type[Contender]] = [Ours, Flock, FileLockJson, SqliteWal, Lmdb, ModeBit]
    work = now_and_then(seconds, writes)
    crowds = rounds(kinds, directory, processes, work)
    return [
        Line(
            f"write p99, {processes} processes now and then",
            crowds[Ours].p99_ms,
            crowds[kind].p99_ms,
            "ms",
            "<= 1.5" if kind is Flock else "",
            f"against {kind.name}" + (f", {crowds[kind].unfinished} never done" if crowds[kind].unfinished else ""),
        )
        for kind in kinds[1:]
    ]


def closed_loop(
    directory: Path, crowds: tuple[int, ...] = (100, 300, 1000), updates: int = 10, rounds: int = 3
) -> list[Line]:
    """Writers that never pause: how much is done in a second must not fall with their number."""
    kinds: list[type[Contender]] = [Ours, Flock]
    rates: dict[tuple[type[Contender], int], list[float]] = {}
    for turn in range(rounds):
        for processes in crowds:
            for kind in kinds:
                where = directory / f"{kind.__name__}-{processes}-{turn}"
                crowd = _told(run(kind, where, processes, updating(updates)))
                rates.setdefault((kind, processes), []).append(crowd.per_second)
    middle = {each: sorted(of_all)[rounds // 2] for each, of_all in rates.items()}
    return [
        Line(f"updates/s, {processes} processes without a pause", middle[Ours, processes], middle[Flock, processes],
             "/s", note="against bare flock")
        for processes in crowds
    ] + [
        Line(f"updates/s, {crowds[-1]} processes", middle[Ours, crowds[-1]], middle[Ours, crowds[-2]], "/s",
             ">= 0.7", f"against {crowds[-2]}")
    ]  # fmt: skip


def all_at_once(directory: Path, processes: int = 1000) -> list[Line]:
    """A thousand processes that start together and want the document."""
    kinds: list[type[Contender]] = [Ours, FileLockJson, ModeBit]
    crowds = {kind: _told(run(kind, directory / kind.__name__, processes, one_read)) for kind in kinds}
    lines = []
    for kind in kinds[1:]:
        note = f"against {kind.name}" + (f", {crowds[kind].unfinished} never served" if crowds[kind].unfinished else "")
        lines += [
            Line(f"{processes} start at once, until all are served", crowds[Ours].took_s, crowds[kind].took_s, "s",
                 "<= 1", note),
            Line(f"{processes} start at once, CPU of all", crowds[Ours].cpu_s, crowds[kind].cpu_s, "s", "<= 1", note),
        ]  # fmt: skip
    return lines


def counters(
    directory: Path, crowds: tuple[tuple[int, int], ...] = ((1, 400), (10, 100), (100, 10), (1000, 2))
) -> list[Line]:
    """Lost updates: every increment of every process has to be there."""
    lines = []
    for processes, times in crowds:
        crowd = _told(run(Ours, directory / f"ours-{processes}", processes, counting(times)))
        kept = Bare(directory / f"ours-{processes}").read().get("n", 0)
        note = f"{min(crowd.done, default=0)} to {max(crowd.done, default=0)} a process"
        lines.append(Line(f"increments kept, {processes} processes", kept, processes * times, "", ">= 1", note))
    kept = 0
    crowd = _told(run(ModeBit, directory / "mode-bit", 8, counting(25)))
    kept = ModeBit(directory / "mode-bit")._read().get("n", 0)
    lines.append(Line("increments kept by the mode bit, 8 processes", kept, 200, "", note="the original's protocol"))
    return lines


def _told(crowd: Crowd) -> Crowd:
    print(f"  {crowd.told()}", flush=True)
    return crowd
