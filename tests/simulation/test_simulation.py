"""Thousands of schedules of the real replica logic under faults, and what must hold after each (DESIGN's promises)."""

from __future__ import annotations

import os

import pytest

from miros_cache_net.document import Document
from miros_cache_net.errors import Reason
from tests.simulation.simulator import DEFAULT_VALUE, Acknowledged, Faults, World

#: More with MIROS_CACHE_SIMULATIONS=100000 (the long soak).
SCHEDULES = int(os.environ.get("MIROS_CACHE_SIMULATIONS", "2000"))
BATCH = 50


def check(world: World) -> None:
    """Agreement, nothing acknowledged lost, nothing from nowhere, reads that never go back."""
    seed = f"seed {world.seed}"
    agreed(world)
    final = world.hosts[0].disk
    for write in world.acknowledged:
        assert_kept_or_dominated(final, write, seed)
    known = {value for write in world.acknowledged for value in write.entries.values()} | {DEFAULT_VALUE}
    assert all(value in known for value in final.contents.values()), seed
    for host in world.hosts:
        for earlier, later in zip(host.history, host.history[1:], strict=False):
            assert later.merged(earlier) is later, f"{seed}: {host.name} went back"


def agreed(world: World) -> None:
    texts = {host.disk.to_text() if host.disk.is_written else b"" for host in world.hosts}
    assert len(texts) == 1, f"seed {world.seed}: {len(texts)} different documents after healing"


def assert_kept_or_dominated(final: Document, write: Acknowledged, seed: str) -> None:
    assert final.floor.stamp >= write.stamp or not write.whole, f"{seed}: a whole write is lost"
    for key, value in write.entries.items():
        entry = final.entries.get(key)
        kept = entry is not None and entry.stamp >= write.stamp
        assert kept or final.floor.stamp >= write.stamp, f"{seed}: {key}={value} at {write.stamp} is lost"


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_any_schedule_of_faults_ends_in_one_document_that_holds_every_acknowledged_write(first: int) -> None:
    for seed in range(first, min(first + BATCH, SCHEDULES)):
        world = World(seed, hosts=2 + seed % 4)
        world.play(steps=30)
        world.heal()
        check(world)


@pytest.mark.parametrize("first", range(0, SCHEDULES // 4, BATCH))
def test_clocks_an_hour_off_delay_agreement_until_they_are_right_and_lose_nothing(first: int) -> None:
    for seed in range(first, min(first + BATCH, SCHEDULES // 4)):
        world = World(seed, hosts=2 + seed % 4, faults=Faults(wrong_clock_ms=3_600_000))
        world.play(steps=30)
        world.heal()
        agreed(world)
        values = set(world.hosts[0].disk.contents.values())
        written = {value for write in world.acknowledged for value in write.entries.values()} | {DEFAULT_VALUE}
        assert values <= written, f"seed {seed}"


def test_writes_under_a_clock_an_hour_ahead_are_kept_and_spread_once_it_is_right() -> None:
    world = World(3, hosts=3, faults=Faults(loss=0, duplication=0, delay_s=0.01, confirm_loss=0, merge_loss=0))
    for host in world.hosts:
        host.start()
    world.run_for(10)
    wrong = world.hosts[0]
    wrong.skew_ms = 3_600_000
    wrong.write_whole({"a": "from the future"})
    world.run_for(100)
    assert all(not host.disk.is_written for host in world.hosts[1:])
    assert all(Reason.CLOCK in host.reports for host in world.hosts[1:])
    wrong.set_clock()
    world.run_for(100)
    assert all(host.disk.contents == {"a": "from the future"} for host in world.hosts)
    world.hosts[1].write_whole({"b": "later"})
    world.run_for(10)
    agreed(world)
    assert wrong.disk.contents == {"b": "later"}


def test_writes_under_a_clock_an_hour_behind_are_kept_and_win_once_it_is_right() -> None:
    world = World(4, hosts=3, faults=Faults(loss=0, duplication=0, delay_s=0.01, confirm_loss=0, merge_loss=0))
    for host in world.hosts:
        host.start()
    wrong = world.hosts[0]
    wrong.skew_ms = -3_600_000
    world.run_for(10)
    world.hosts[1].write_whole({"a": "before"})
    world.run_for(10)
    wrong.write_whole({"b": "later, by the slow clock"})
    world.run_for(100)
    assert Reason.CLOCK in wrong.reports
    wrong.set_clock()
    world.run_for(100)
    agreed(world)
    assert world.hosts[2].disk.contents == {"b": "later, by the slow clock"}


def test_a_fleet_in_agreement_grows_quiet_however_many_hosts_it_has() -> None:
    def messages_in_ten_minutes(hosts: int) -> int:
        world = World(1, hosts, Faults(loss=0, duplication=0, delay_s=0.01, confirm_loss=0, merge_loss=0))
        for host in world.hosts:
            host.start()
        world.run_for(60)
        world.hosts[0].write()
        world.run_for(120)
        before = world.messages
        world.run_for(600)
        return world.messages - before

    few, many = messages_in_ten_minutes(4), messages_in_ten_minutes(64)
    assert few <= 2 * 600 / 30
    assert many <= 2 * few


def test_messages_of_a_join_do_not_grow_with_the_number_of_hosts() -> None:
    def messages_of_a_join(hosts: int) -> int:
        world = World(2, hosts + 1, Faults(loss=0, duplication=0, delay_s=0.01, confirm_loss=0, merge_loss=0))
        newcomer = world.hosts[-1]
        for host in world.hosts[:-1]:
            host.start()
        world.hosts[0].write()
        world.run_for(600)
        before = world.messages
        newcomer.start()
        world.run_for(0.2)
        assert newcomer.disk.to_text() == world.hosts[0].disk.to_text()
        return world.messages - before

    assert messages_of_a_join(3) == messages_of_a_join(100) == 2
