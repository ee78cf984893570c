"""A discovery's result against what was written meanwhile, whatever the clocks say; and one odd clock in a fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.document.value import ZERO, Document, Entry, Floor, Stamp
from miros_cache_net.errors import NoSpace
from miros_cache_net.store import file_store
from miros_cache_net.store.changes import Beginning, Destroy, Merge, write_of
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.group_commit import commit
from miros_cache_net.testing import ManualClock

SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
TIME_OUT = {"time_out_in_minutes": 60}


class Machine:
    """One host: its cache file, and its clock."""

    def __init__(self, directory: Path, name: str, ahead_ms: int = 0) -> None:
        (directory / name).mkdir()
        self.name, self.clock = name, ManualClock()
        self.clock.jump_wall(ahead_ms)
        path = directory / name / "cache.json"
        self.cache, self.store = Cache(path, clock=self.clock), FileStore(path, clock=self.clock)
        self.discoveries: list[int] = []

    def hear(self, other: Machine) -> None:
        """The other's document reaches this host."""
        commit(self.store, Merge(other.store.read().document))

    def discovers(self, meanwhile: Callable[[], object] = lambda: None, **more: Any) -> dict[str, Any]:
        """What this host has in the end, if in its discovery something happens."""

        def discovery() -> dict[str, Any]:
            self.discoveries.append(self.clock.wall_ms())
            meanwhile()
            return {"by": self.name, **TIME_OUT, **more}

        return dict(self.cache.get_or_discover(discovery).dict)

    @property
    def by(self) -> Any:
        return self.cache.read().dict.get("by")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(name: str, ahead_ms: int = 0) -> Machine:
        monkeypatch.setenv("MIROS_CACHE_NODE_NAME", name)
        made.append(Machine(tmp_path, name, ahead_ms))
        return made[-1]

    yield make
    for each in made:
        each.cache.close()
        each.store.close()


def old_document(*machines: Machine, ahead_ms: int = 0) -> None:
    """All hold one document that has expired, with stamps ahead of their clocks."""
    first, *others = machines
    first.clock.jump_wall(ahead_ms)
    first.cache.write({"by": "nobody", "time_out_in_minutes": 0})
    first.clock.jump_wall(-ahead_ms)
    for other in others:
        other.hear(first)


# --- the fence ------------------------------------------------------------------------------------------


def test_host_ahead_overwrites_no_result_it_has_heard(machine: Callable[..., Machine]) -> None:
    ahead, right = machine("ahead", 50 * SECOND_MS), machine("right")

    def another_discovers() -> None:
        right.discovers()
        ahead.hear(right)

    assert ahead.discovers(another_discovers)["by"] == "right"
    right.hear(ahead)
    assert (right.by, ahead.by) == ("right", "right")


@pytest.mark.parametrize("names", [("alpha", "beta"), ("beta", "alpha")])
def test_names_decide_nothing_between_frozen_stamps(machine: Callable[..., Machine], names: tuple[str, str]) -> None:
    slow, quick = machine(names[0]), machine(names[1])
    old_document(slow, quick, ahead_ms=50 * SECOND_MS)

    def another_discovers() -> None:
        quick.discovers()
        slow.hear(quick)

    assert slow.discovers(another_discovers)["by"] == names[1]


def test_update_is_later_than_beginning_at_frozen_stamps(machine: Callable[..., Machine]) -> None:
    host = machine("alpha")
    old_document(host, ahead_ms=50 * SECOND_MS)
    found = host.discovers(lambda: host.cache.update({"note": 1}), note=2)
    assert found["note"] == 1


def test_result_counts_from_beginning_despite_stamps_ahead(machine: Callable[..., Machine]) -> None:
    host = machine("alpha")
    old_document(host, ahead_ms=50 * SECOND_MS)
    began_ms = host.clock.wall_ms()
    host.discovers(lambda: host.clock.advance(20))
    assert host.cache.read().last_modified * 1000 == began_ms


def test_clock_set_back_leaves_no_future_result(machine: Callable[..., Machine]) -> None:
    host = machine("alpha")
    host.discovers(lambda: host.clock.jump_wall(-HOUR_MS))
    assert host.cache.read().last_modified * 1000 <= host.clock.wall_ms()


def test_floor_at_time_zero_supersedes_no_discovery() -> None:
    began = Beginning(Stamp(5, 0, "alpha-1"), ZERO, 5)
    weakest = Stamp(0, 0, "alpha-1")
    updated = Document(Floor(weakest, 1), {"note": Entry(Stamp(5, 1, "alpha-1"), 1)})
    assert write_of({"by": "alpha"}, began).apply(updated, weakest, 6).contents == {"by": "alpha", "note": 1}


def test_two_beginnings_of_one_host_never_tie(machine: Callable[..., Machine]) -> None:
    host = machine("alpha")
    old_document(host, ahead_ms=50 * SECOND_MS)
    first, second = host.cache.begin_discovery(), host.cache.begin_discovery()
    assert first.stamp < second.stamp
    assert host.cache.read().dict["by"] == "nobody"


# --- one odd clock --------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd_ms", [2 * HOUR_MS, -2 * HOUR_MS])
def test_odd_clock_makes_no_loop_of_discoveries(machine: Callable[..., Machine], odd_ms: int) -> None:
    hosts = [machine(f"host-{number}") for number in range(4)] + [machine("odd", odd_ms)]
    for _minute in range(24 * 60):
        for host in hosts:
            before = len(host.discoveries)
            host.discovers()
            if len(host.discoveries) > before:
                for other in hosts:
                    if other is not host:
                        other.hear(host)
        for host in hosts:
            host.clock.advance(60)
    for host in hosts:
        gaps = [later - earlier for earlier, later in zip(host.discoveries, host.discoveries[1:], strict=False)]
        assert min(gaps, default=HOUR_MS) >= HOUR_MS
    assert sum(len(host.discoveries) for host in hosts) <= 2 * 24 + len(hosts)


def test_host_rests_after_its_discovery(machine: Callable[..., Machine]) -> None:
    host, odd = machine("host"), machine("odd")
    host.discovers()
    odd.clock.advance(2)
    odd.cache.write({"by": "odd", "time_out_in_minutes": 60})
    odd.clock.advance(1)
    document = odd.store.read().document
    old = document.written(
        {"by": "odd", **TIME_OUT}, document.floor.stamp, document.floor.discovered_at_ms - 2 * HOUR_MS
    )
    commit(host.store, Merge(old))
    assert host.cache.read().stale
    assert host.discovers()["by"] == "odd"
    host.clock.advance(3600 - 1)
    assert host.discovers()["by"] == "odd"
    host.clock.advance(2)
    assert host.discovers()["by"] == "host"


def test_force_does_not_rest(machine: Callable[..., Machine]) -> None:
    host = machine("host")
    host.discovers()
    assert host.cache.get_or_discover(lambda: {"by": "force"}, force=True).dict == {"by": "force"}


def test_a_discovery_of_the_future_makes_nobody_rest(machine: Callable[..., Machine]) -> None:
    host = machine("host")
    host.discovers(time_out_in_minutes=0)
    host.clock.jump_wall(-HOUR_MS)
    host.discovers(time_out_in_minutes=0)
    assert len(host.discoveries) == 2


def test_a_destroyed_document_is_discovered_again_at_once(machine: Callable[..., Machine]) -> None:
    host = machine("host")
    host.discovers()
    commit(host.store, Destroy())
    assert host.discovers()["by"] == "host"


def test_waiting_caller_takes_an_already_expired_result(machine: Callable[..., Machine]) -> None:
    host = machine("host")
    host.discovers(time_out_in_minutes=0)
    host.discovers(time_out_in_minutes=0)
    assert len(host.discoveries) == 1
    host.clock.advance(2)
    host.discovers(time_out_in_minutes=0)
    assert len(host.discoveries) == 2


def test_unstored_result_makes_nobody_rest(machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    host = machine("host")
    old_document(host)
    host.clock.advance(2)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "planted")

    with monkeypatch.context() as patch, pytest.raises(NoSpace):
        patch.setattr(file_store, "put_in_place", full)
        host.discovers()
    assert host.discovers()["by"] == "host"
