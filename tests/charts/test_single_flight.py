"""One discovery for all who find the document expired at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.cache import Cache
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.probe.prober import Prober
from miros_cache_net.document.value import Document
from miros_cache_net.events import CACHE_ERROR, CACHE_FILE_READ, CONNECTION_DISCOVERY, RECCE_LAN, event
from miros_cache_net.settings import Settings
from miros_cache_net.single_flight import LEASE_PATIENCE_S, discovery_lock_path
from miros_cache_net.store.changes import Merge
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.group_commit import commit
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.testing import Fleet, Host, ManualClock, wait_until
from tests.charts.recorder import Recorder
from tests.fake_servers import FakeServer, generous_rabbit
from tests.threads import no_lock_waiters


class Neighbourhood:
    """One peer that is there; counts how often it was looked for, and can make that take its time."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.discoveries = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self) -> list[str]:
        self.discoveries += 1
        self.may_end.wait(20)
        return [self.peer]


@pytest.fixture
def around() -> Iterator[Neighbourhood]:
    with FakeServer(generous_rabbit) as server:
        neighbourhood = Neighbourhood(f"127.0.0.1:{server.port}")
        yield neighbourhood
        neighbourhood.may_end.set()


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


@pytest.fixture
def build(stopping: Callable[[Any], Any], around: Neighbourhood, prober: Prober) -> Callable[..., LanChart]:
    def make(**more: Any) -> LanChart:
        settings = Settings(scout_timeout_s=20)
        chart: LanChart = stopping(
            LanChart("cache.#", "mesh", 30, candidates=around, settings=settings, prober=prober, **more)
        )
        return chart

    return make


def test_one_program_of_a_host_discovers_for_all(
    build: Callable[..., LanChart], around: Neighbourhood, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    found = recorder(CONNECTION_DISCOVERY)
    around.may_end.clear()
    charts = [build(cache_file_path=tmp_path / "lan.json") for _ in range(8)]
    wait_until(lambda: around.discoveries == 1, what="one to begin")
    around.may_end.set()
    found.wait_for(len(charts))
    assert {tuple(payload.hosts) for payload in found.payloads} == {(around.peer,)}
    assert around.discoveries == 1


def test_chart_without_thread_to_wait_looks_again(
    build: Callable[..., LanChart], around: Neighbourhood, tmp_path: Path
) -> None:
    another = KernelLock(discovery_lock_path(tmp_path / "lan.json"))
    assert another.try_lock()
    with no_lock_waiters():
        chart = build(cache_file_path=tmp_path / "lan.json")
        wait_until(lambda: chart.state.fun.__name__ == "await_turn", what="it to wait")
        another.close()
        wait_until(lambda: around.discoveries == 1, what="its turn")


def on(host: Host, build: Callable[..., LanChart]) -> LanChart:
    return build(cache_file_chart=host.node.file_chart, ask_turn=host.node.ask_turn, fleet_wait_s=5.0)


def test_of_all_hosts_of_a_fleet_one_discovers(
    hosts: Fleet, build: Callable[..., LanChart], around: Neighbourhood
) -> None:
    members = [hosts.add(name) for name in ("alpha", "beta", "gamma")]
    around.may_end.clear()
    for host in members:
        on(host, build)
    wait_until(lambda: around.discoveries == 1, what="one to begin")
    around.may_end.set()
    for host in members:
        wait_until(lambda host=host: host.read().get("addresses") == [around.peer], what="the result")
    assert around.discoveries == 1


def test_a_follower_discovers_under_its_bridges_lease(
    hosts: Fleet, build: Callable[..., LanChart], around: Neighbourhood
) -> None:
    hosts.add("alpha")
    follower = hosts.add("alpha", wait=False)
    wait_until(lambda: follower.node.connected and follower.node.status()["role"] == "follower", what="the follower")
    beta = hosts.add("beta")
    around.may_end.clear()
    on(follower, build)
    wait_until(lambda: around.discoveries == 1, what="the follower to begin")
    assert not turn_of(beta)
    around.may_end.set()
    wait_until(lambda: follower.read().get("addresses") == [around.peer], what="the result")
    wait_until(lambda: turn_of(beta), what="the lease to be free again")


def turn_of(host: Host) -> bool:
    """Whether the host may discover now, as a process of it asks that has the host's own lock."""
    lock = KernelLock(discovery_lock_path(host.node.file_chart.path))
    assert lock.try_lock()
    answers: list[bool] = []
    try:
        host.node.ask_turn(answers.append)
        wait_until(lambda: bool(answers), what="the answer")
    finally:
        lock.close()
    return answers[0]


def test_lease_of_host_that_leaves_is_free(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    lock = KernelLock(discovery_lock_path(alpha.node.file_chart.path))
    assert lock.try_lock()
    answers: list[bool] = []
    alpha.node.ask_turn(answers.append)
    wait_until(lambda: answers == [True], what="alpha's turn")
    assert not turn_of(beta)
    alpha.stop()
    wait_until(lambda: turn_of(beta), what="the lease to be free")
    lock.close()


def test_without_a_fleet_everybody_may(hosts: Fleet) -> None:
    broker = hosts.broker
    assert isinstance(broker, MemoryBroker)
    broker.crash()
    alone = hosts.add("alone", wait=False)
    wait_until(lambda: alone.node.status()["trouble"], what="the trouble")
    assert turn_of(alone)


def test_busy_bridge_is_asked_once_more(build: Callable[..., LanChart], around: Neighbourhood, tmp_path: Path) -> None:
    asked: list[Callable[[bool], None]] = []
    build(cache_file_path=tmp_path / "lan.json", ask_turn=asked.append)
    wait_until(lambda: len(asked) >= 2, what="the second question")
    assert around.discoveries == 0
    asked[-1](True)
    wait_until(lambda: around.discoveries == 1, what="the turn")


def test_discovery_that_slept_cannot_overwrite_younger_result(
    build: Callable[..., LanChart], around: Neighbourhood, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    errors = recorder(CACHE_ERROR)
    around.may_end.clear()
    build(cache_file_path=tmp_path / "lan.json")
    wait_until(lambda: around.discoveries == 1, what="it to begin")
    younger = {"addresses": ["10.0.0.9"], "time_out_in_minutes": 30}
    with Cache(tmp_path / "lan.json") as cache:
        cache.write(younger)
        around.may_end.set()
        errors.wait_for(lambda events: any(e.payload.reason == "superseded" for e in events))
        assert cache.read().dict == younger


def test_stale_result_is_served_until_fresh_one_comes(
    build: Callable[..., LanChart], around: Neighbourhood, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    found = recorder(CONNECTION_DISCOVERY)
    with Cache(tmp_path / "lan.json") as cache:
        cache.write({"addresses": ["10.0.0.9"], "amqp_urls": [], "time_out_in_minutes": 0})
        assert cache.read().stale
    around.may_end.clear()
    build(cache_file_path=tmp_path / "lan.json")
    found.wait_for(1)
    around.may_end.set()
    found.wait_for(lambda events: events[-1].payload.hosts == [around.peer])
    assert found.payloads[0].hosts == ["10.0.0.9"]


def test_young_document_is_refreshed_ahead_of_its_expiry(
    build: Callable[..., LanChart], around: Neighbourhood, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    recces = recorder(RECCE_LAN)
    with Cache(tmp_path / "lan.json") as cache:
        cache.write({"addresses": [around.peer], "amqp_urls": [], "time_out_in_minutes": 2 / 60})
        first = cache.read().last_modified
        build(cache_file_path=tmp_path / "lan.json")
        fresh = cache.wait(lambda payload: payload.last_modified > first, timeout_s=20)
        assert fresh is not None
        assert fresh.last_modified - first < 2
    assert recces.events == [] or around.discoveries >= 1


def stale_result_after(document: Document) -> Document:
    """What a host whose clock is three hours behind, and that had heard `document`, has just discovered."""
    contents = {"addresses": ["10.0.0.9"], "amqp_urls": [], "time_out_in_minutes": 30}
    last = document.last_stamp
    stamp = last._replace(counter=last.counter + 1, node="behind")
    return document.written(contents, stamp, document.floor.discovered_at_ms - 3 * 3_600_000)


def test_fresh_discovery_is_served_despite_another_clock(
    build: Callable[..., LanChart], around: Neighbourhood, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    found = recorder(CONNECTION_DISCOVERY)
    path = tmp_path / "lan.json"
    chart = build(cache_file_path=path)
    with Cache(path) as cache, closing(FileStore(path)) as store:
        cache.wait(lambda payload: payload.dict["addresses"] == [around.peer], timeout_s=20)
        commit(store, Merge(stale_result_after(store.read().document)))
        assert cache.read().stale
        chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        found.wait_for(lambda events: events[-1].payload.hosts == ["10.0.0.9"])
        chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        found.wait_for(lambda events: [e.payload.hosts for e in events[-2:]] == [["10.0.0.9"]] * 2)
        assert around.discoveries == 1
        assert cache.get_or_discover(lambda: pytest.fail("it ran")).stale
        chart.stop()
        build(cache_file_path=path)
        found.wait_for(lambda events: [e.payload.hosts for e in events[-3:]] == [["10.0.0.9"]] * 3)
        assert around.discoveries == 1


def test_update_during_a_recce_survives_its_result(
    build: Callable[..., LanChart], around: Neighbourhood, tmp_path: Path
) -> None:
    around.may_end.clear()
    with Cache(tmp_path / "lan.json") as cache:
        cache.write({"addresses": [], "time_out_in_minutes": 0})
        build(cache_file_path=tmp_path / "lan.json")
        wait_until(lambda: around.discoveries == 1, what="it to begin")
        cache.update({"note": "meanwhile"})
        around.may_end.set()
        cache.wait(lambda payload: payload.dict["addresses"] == [around.peer], timeout_s=20)
        assert cache.read().dict["note"] == "meanwhile"


def test_lease_of_a_stranger_is_not_awaited_forever(
    build: Callable[..., LanChart], around: Neighbourhood, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    errors = recorder(CACHE_ERROR)
    clock = ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms())
    asked = 0

    def somebody_elses(done: Callable[[bool], None]) -> None:
        nonlocal asked
        asked += 1
        done(False)

    build(cache_file_path=tmp_path / "lan.json", ask_turn=somebody_elses, clock=clock)
    wait_until(lambda: asked == 2, what="the second question")
    assert around.discoveries == 0
    clock.advance(LEASE_PATIENCE_S[1])
    wait_until(lambda: around.discoveries == 1, what="the discovery")
    assert "discovering anyway" in errors.wait_for(1)[0].payload.message


def test_unwritable_file_keeps_nobody_from_its_peers(
    build: Callable[..., LanChart], around: Neighbourhood, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    found = recorder(CONNECTION_DISCOVERY)
    errors = recorder(CACHE_ERROR)
    (tmp_path / ".lan.json.lock").mkdir()
    build(cache_file_path=tmp_path / "lan.json")
    found.wait_for(1)
    assert found.payloads[0].hosts == [around.peer]
    assert errors.events
