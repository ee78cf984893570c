"""Many processes on several hosts of one real broker find the document expired at the same moment."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.events import CACHE, CONNECTION_DISCOVERY
from miros_cache_net.node import CacheNode
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.listener import Listener
from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.fake_servers import FakeServer, generous_rabbit
from tests.multiprocess.children import DEADLINE_S, Child, join_all

HOSTS = ("alpha", "beta", "gamma", "delta", "epsilon")
#: On each host.  With 100, a small and busy machine takes half a minute.
PROCESSES = int(os.environ.get("MIROS_CACHE_PROCESSES", "20"))
OLD, YOUNGER = "10.0.0.9", "10.0.0.8"
#: Another host asks every 1 to 2 s.
TAKE_OVER_S = 20.0


class Gate:
    """Holds forked children up, without a look at the clock, until the parent opens it."""

    def __init__(self) -> None:
        self._wait_at, self._held = os.pipe()

    def forked(self) -> None:
        """For the child, first: it must not hold its brothers up."""
        os.close(self._held)

    def wait(self) -> None:
        os.read(self._wait_at, 1)

    def open(self) -> None:
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def close(self) -> None:
        self.open()
        os.close(self._wait_at)


class Stage:
    """Where the processes meet: a directory with a folder for each host, files that say how far they are, and gates."""

    def __init__(self, directory: Path, url: str, peer: str) -> None:
        self.directory, self.peer = directory, peer
        self._url, self._key = url, generate_key().decode()
        self.go, self.answer, self.end = self.gates = Gate(), Gate(), Gate()
        for name in HOSTS:
            (directory / name).mkdir()
            with Cache(self.file(name)) as cache:
                cache.write({"addresses": [OLD], "amqp_urls": [], "time_out_in_minutes": 0})

    def file(self, host: str) -> Path:
        return self.directory / host / "cache.json"

    def settings(self, host: str) -> Settings:
        return Settings(
            keys=self._key, file=str(self.file(host)), node_name=host, amqp_urls=self._url, scout_timeout_s=20
        )

    def note(self, what: str) -> None:
        """One more line: this process."""
        descriptor = os.open(self.directory / what, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, b"%d\n" % os.getpid())
        os.close(descriptor)

    def noted(self, what: str) -> list[int]:
        path = self.directory / what
        return [int(line) for line in path.read_text().split()] if path.exists() else []


def program(_writer: int, stage: Stage, host: str, *, only_bridge: bool = False) -> None:
    """A member of the fleet that wants its peers, and leaves a trace of each sweep; or its host's bridge alone."""
    for gate in stage.gates:
        gate.forked()
    found: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    connected = threading.Event()
    settings = stage.settings(host)

    def hear(cache: CacheReadPayload) -> None:
        if cache.connected:
            connected.set()

    Listener({CONNECTION_DISCOVERY: lambda payload: found.put(payload.hosts), CACHE: hear})
    node = CacheNode(settings=settings)
    assert connected.wait(DEADLINE_S), "no fleet"
    stage.note("ready")
    if only_bridge:
        return stage.end.wait()
    stage.go.wait()

    swept = False

    def sweep() -> list[str]:
        nonlocal swept
        swept = True
        stage.note("sweeps")
        stage.answer.wait()
        return [stage.peer]

    fleet: dict[str, Any] = {"cache_file_chart": node.file_chart, "ask_turn": node.ask_turn, "fleet_wait_s": 5.0}
    LanChart("cache.#", "mesh", 30, candidates=sweep, settings=settings, **fleet)
    assert found.get(timeout=DEADLINE_S) == [OLD], "the stale result is served at once"
    stage.note("served")
    while found.get(timeout=DEADLINE_S) not in ([stage.peer], [YOUNGER]):
        pass
    stage.note("found")
    stage.end.wait()
    if swept:
        node.file_chart.stop()  # what it has written is in the file, or was refused


@pytest.fixture
def crowd(rabbit_server: RabbitServer, tmp_path: Path) -> Iterator[Callable[[int], tuple[Stage, list[Child]]]]:
    """So many processes on each host, beside its bridge, in step with the fleet; none has looked for its peers."""
    started: list[Child] = []
    with FakeServer(generous_rabbit) as server:
        stage = Stage(tmp_path, rabbit_server.url, f"127.0.0.1:{server.port}")

        def ready(*children: Child) -> list[Child]:
            started.extend(children)
            wait_until(lambda: len(stage.noted("ready")) == len(started), timeout_s=DEADLINE_S, what="all to be ready")
            return list(children)

        def start(processes: int) -> tuple[Stage, list[Child]]:
            ready(*(Child(partial(program, only_bridge=True), stage, host) for host in HOSTS))
            return stage, ready(*(Child(program, stage, host) for _ in range(processes) for host in HOSTS))

        yield start
        for gate in stage.gates:
            gate.close()
        join_all(started)


def all_noted(stage: Stage, what: str, count: int) -> None:
    wait_until(lambda: len(stage.noted(what)) == count, timeout_s=DEADLINE_S, what=f"{count} times {what}")


def test_all_processes_of_five_hosts_make_one_sweep(crowd: Callable[[int], tuple[Stage, list[Child]]]) -> None:
    stage, children = crowd(PROCESSES)
    stage.go.open()
    all_noted(stage, "served", len(children))
    stage.answer.open()
    all_noted(stage, "found", len(children))
    assert len(stage.noted("sweeps")) == 1
    stage.end.open()
    assert join_all(children) == [0] * len(children)


@pytest.mark.parametrize("all_of_its_host", [False, True])
def test_the_sweeper_is_killed_and_another_takes_over(
    crowd: Callable[[int], tuple[Stage, list[Child]]], all_of_its_host: bool
) -> None:
    stage, children = crowd(3)
    stage.go.open()
    all_noted(stage, "served", len(children))
    all_noted(stage, "sweeps", 1)
    (sweeper,) = (number for number, child in enumerate(children) if child.pid in stage.noted("sweeps"))
    killed = children[sweeper % len(HOSTS) :: len(HOSTS)] if all_of_its_host else [children[sweeper]]
    for child in killed:
        child.kill()
    wait_until(lambda: len(stage.noted("sweeps")) == 2, timeout_s=TAKE_OVER_S, what="another sweep")
    stage.answer.open()
    all_noted(stage, "found", len(children) - len(killed))
    assert len(stage.noted("sweeps")) == 2
    stage.end.open()
    assert sorted(join_all(children)) == [-signal.SIGKILL] * len(killed) + [0] * (len(children) - len(killed))


def test_paused_sweeper_cannot_overwrite_a_younger_result(
    crowd: Callable[[int], tuple[Stage, list[Child]]],
) -> None:
    stage, children = crowd(1)
    stage.go.open()
    all_noted(stage, "served", len(children))
    all_noted(stage, "sweeps", 1)
    (sweeper,) = stage.noted("sweeps")
    os.kill(sweeper, signal.SIGSTOP)
    try:
        with Cache(stage.file(HOSTS[0])) as cache:
            cache.write({"addresses": [YOUNGER], "amqp_urls": [], "time_out_in_minutes": 30})
        all_noted(stage, "found", len(children) - 1)
        stage.answer.open()
    finally:
        os.kill(sweeper, signal.SIGCONT)
    all_noted(stage, "found", len(children))
    stage.end.open()
    assert join_all(children) == [0] * len(children)
    assert {tuple(read_cache(stage.file(host)).dict["addresses"]) for host in HOSTS} == {(YOUNGER,)}
