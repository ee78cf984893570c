"""Hosts of a soak, two processes each, and programs that write all the time."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from miros_cache_net.cache import Cache
from miros_cache_net.testing import Host, NodeProcess, wait_until
from tests.soak.history import DELETED, History, Write

KEYS = 20
_PAUSE_S = 0.08
_WHOLE_PAUSE_S = 3.0


class Held(NamedTuple):
    """What a process holds of the machine."""

    threads: int
    descriptors: int
    memory_mb: float


class SoakHost:
    """A host with two processes on it, a bridge and a follower."""

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self.host = host
        host.spawn()

    def in_step(self) -> bool:
        return all(process.status()["connected"] for process in self.host.processes)

    def of_role(self, role: str) -> NodeProcess:
        """The process that is the bridge, or the follower, as soon as there is one."""

        def look() -> NodeProcess | None:
            return next((process for process in self.host.processes if process.status()["role"] == role), None)

        found = wait_until(look, timeout_s=30, what=f"a {role} on {self.name}")
        assert found is not None
        return found

    def kill(self, process: NodeProcess) -> None:
        """And have another one started in its place."""
        process.kill()
        self.host.spawn()

    def is_settled(self) -> bool:
        """Its processes hold what they will hold: one of them watches the file for both."""
        return any("anon_inode:inotify" in _open_files(process.pid) for process in self.host.processes)

    def held(self) -> list[Held]:
        return [_held(process.pid) for process in self.host.processes]


def _open_files(pid: int) -> set[str]:
    return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def _held(pid: int) -> Held:
    place = Path(f"/proc/{pid}")
    pages = int((place / "statm").read_text().split()[1])
    return Held(
        len(os.listdir(place / "task")), len(os.listdir(place / "fd")), pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    )


class Load:
    """While its ``with`` block lasts, every host updates and deletes keys of its own, and one after the other writes
    the whole document.  Every acknowledged write goes into `history`."""

    def __init__(self, hosts: list[SoakHost], history: History, rng: random.Random) -> None:
        self._hosts, self._history, self._rng = hosts, history, rng
        self.slowest_s = 0.0
        self.failures: list[BaseException] = []
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count()

    def __enter__(self) -> Load:
        self._ended.clear()
        works: list[Callable[[], None]] = [lambda host=host: self._update(host) for host in self._hosts]  # type: ignore[misc]
        self._threads = [threading.Thread(target=self._contained, args=(work,)) for work in (*works, self._write)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 20) -> None:
        """Wait for that many more writes."""
        so_far = len(self._history.writes)
        wait_until(
            lambda: self.failures or len(self._history.writes) >= so_far + count, timeout_s=60, what="the load"
        )  # fmt: skip
        assert not self.failures

    def _contained(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)

    def _update(self, host: SoakHost) -> None:
        while not self._ended.wait(self._rng.uniform(0, 2 * _PAUSE_S)):
            key, number = f"{host.name} {self._rng.randrange(KEYS)}", next(self._numbers)
            if self._rng.random() < 0.15:
                self._timed(lambda key=key: host.host.delete(key), {key: DELETED})  # type: ignore[misc]
            else:
                self._timed(lambda key=key, number=number: host.host.update({key: number}), {key: number})  # type: ignore[misc]

    def _write(self) -> None:
        while not self._ended.wait(self._rng.uniform(0, 2 * _WHOLE_PAUSE_S)):
            contents = {"whole": next(self._numbers), "time_out_in_minutes": 30}
            with Cache(self._rng.choice(self._hosts).host.settings.file) as cache:
                self._timed(lambda: cache.write(contents), contents, whole=True)  # noqa: B023

    def _timed(self, work: Callable[[], Any], values: dict[str, Any], whole: bool = False) -> None:
        began_s = time.monotonic()
        work()
        write = Write(values, began_s, time.monotonic(), whole)
        self.slowest_s = max(self.slowest_s, write.ended_s - write.began_s)
        self._history.add(write)
