"""The fleet that the test kit makes in memory, as its users see it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from miros_cache_net import CacheNode
from miros_cache_net.errors import NoSpace
from miros_cache_net.testing import (
    DiskUnavailable,
    Fleet,
    ManualClock,
    MemoryBroker,
    NotRunning,
    NotThisKind,
    small_disk,
    wait_until,
)

MakeFleet = Callable[..., Fleet]


def test_host_cut_off_catches_up_once_healed(fleet: MakeFleet) -> None:
    hosts = fleet(3)
    hosts[0].write({"a": 1})
    hosts[1].cut()
    hosts[0].write({"a": 2})
    hosts[1].heal()
    hosts.agree()
    assert hosts[1].read() == {"a": 2}


def test_a_host_that_is_cut_off_hears_nothing(fleet: MakeFleet) -> None:
    hosts = fleet(3)
    hosts[1].cut()
    wait_until(lambda: not hosts[1].connected, what="the cut to be noticed")
    hosts[0].write({"a": 1})
    hosts.agree(hosts[0], hosts[2], on=lambda contents: contents == {"a": 1})
    assert hosts[1].read() == {}


def test_host_started_while_cut_off_stays_cut_off(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[1].stop()
    hosts[1].cut()
    hosts[1].start()
    wait_until(lambda: hosts[1].status()["trouble"], what="it to know")
    assert not hosts[1].connected
    hosts[1].heal()
    hosts[1].wait_joined()


def test_updates_and_deletes_reach_every_host(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1, "b": 2})
    hosts.agree()
    hosts[1].update({"c": 3}, delete=["a"])
    hosts.agree(on=lambda contents: contents == {"b": 2, "c": 3})
    hosts[0].delete("b", "c")
    hosts.agree(on=lambda contents: contents == {})


def test_stopped_host_catches_up_when_it_starts(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[1].stop()
    assert not hosts[1].running
    hosts[0].write({"a": 1})
    hosts.agree()  # the one that runs, with itself
    assert hosts[1].read() == {}
    hosts[1].start()
    hosts.agree(on=lambda contents: contents == {"a": 1})


def test_hosts_that_do_not_agree_are_told_apart(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[1].cut()
    hosts[0].write({"a": 1})
    with pytest.raises(AssertionError) as failed:
        hosts.agree(timeout_s=0.05)
    lines = str(failed.value).splitlines()
    assert "do not agree" in lines[0]
    assert "host-0 (running) holds {'a': 1}, version " in lines[1]
    assert "host-1 (cut off) holds {}, version " in lines[2]


def test_agreement_on_something_else_is_a_failure(fleet: MakeFleet) -> None:
    hosts = fleet(1)
    with pytest.raises(AssertionError, match="host-0"):
        hosts.agree(on=lambda contents: contents == {"a": 1}, timeout_s=0.05)


def test_a_fleet_of_which_nobody_runs_cannot_agree(fleet: MakeFleet) -> None:
    hosts = fleet(1)
    hosts[0].stop()
    with pytest.raises(AssertionError, match="start"):
        hosts.agree()


def test_write_by_a_clock_ahead_wins(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    for host in hosts:
        host.cut()
    hosts[1].skew(20)
    hosts[1].write({"by": "the one ahead"})
    hosts[0].write({"by": "the later one"})
    for host in hosts:
        host.heal()
    hosts.agree(on=lambda contents: contents == {"by": "the one ahead"})


def test_hosts_clock_can_be_wrong_and_right_again(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].skew(-3600)
    assert hosts[1].status()["clock_ms"] - hosts[0].status()["clock_ms"] > 3_500_000
    hosts[0].skew(0)
    assert abs(hosts[1].status()["clock_ms"] - hosts[0].status()["clock_ms"]) < 100_000


def test_a_host_in_this_process_cannot_be_killed(fleet: MakeFleet) -> None:
    with pytest.raises(NotThisKind, match="kind='process'"):
        fleet(1)[0].kill()


def test_a_stopped_host_has_no_status(fleet: MakeFleet) -> None:
    hosts = fleet(1)
    hosts[0].stop()
    assert not hosts[0].connected
    with pytest.raises(NotRunning, match="start"):
        hosts[0].status()


def test_full_disk_takes_no_write_and_loses_nothing(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1})
    hosts.agree()
    hosts[1].fill_disk()
    with pytest.raises(NoSpace):
        hosts[1].update({"b": 2})
    hosts[0].update({"c": 3})
    assert hosts[1].read() == {"a": 1}
    hosts[1].free_disk()
    hosts[1].update({"b": 2})
    hosts.agree(on=lambda contents: contents == {"a": 1, "b": 2, "c": 3})


def test_unmountable_disk_says_what_it_needs(fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = fleet(1)
    monkeypatch.setattr(small_disk.os, "geteuid", lambda: 1000)
    with pytest.raises(DiskUnavailable, match="root"):
        hosts[0].fill_disk()


def test_no_disk_of_a_host_outlives_its_fleet(tmp_path: Path) -> None:
    with Fleet(tmp_path) as hosts:
        hosts.add().fill_disk()
        assert str(tmp_path) in Path("/proc/mounts").read_text()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_disk_of_a_killed_test_process_is_removed(tmp_path: Path, fleet: MakeFleet) -> None:
    program = "import os, pathlib, sys; from miros_cache_net.testing.small_disk import SmallDisk; "
    program += "SmallDisk(pathlib.Path(sys.argv[1])); os._exit(0)"
    (tmp_path / "left behind").mkdir()
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "left behind")], check=True)
    assert "left\\040behind" in Path("/proc/mounts").read_text()
    fleet(1)[0].fill_disk()
    assert "left\\040behind" not in Path("/proc/mounts").read_text()


def test_two_fleets_on_one_broker_do_not_meet(tmp_path: Path) -> None:
    broker = MemoryBroker()
    with Fleet(tmp_path / "one", broker) as one, Fleet(tmp_path / "other", broker) as other:
        one.add().write({"a": 1})
        assert other.add().read() == {}
        one.add()
        one.agree(on=lambda contents: contents == {"a": 1})
        assert not other[0].read()
        assert not any(name.startswith("refused") for name in other[0].status()["counters"])


def test_a_host_starts_from_its_default(fleet: MakeFleet) -> None:
    assert fleet().add("alpha", default={"a": 1}).read() == {"a": 1}


def test_host_keeps_the_time_that_it_is_given(fleet: MakeFleet, manual_clock: ManualClock) -> None:
    host = fleet().add(clock=manual_clock)
    host.write({"a": 1, "time_out_in_minutes": 1})
    assert not host.cache.read().expired
    manual_clock.advance(61)
    assert host.cache.read().expired


def test_a_fleet_is_a_sequence_of_its_hosts(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts.add("gamma")
    assert [host.name for host in hosts] == ["host-0", "host-1", "gamma"]
    assert hosts[-1].name == "gamma" and len(hosts[:2]) == 2


def test_settings_reach_every_host(fleet: MakeFleet) -> None:
    hosts = fleet(1, scope="plant")
    assert hosts[0].status()["scope"] == "plant"
    assert hosts.add(scope="office").status()["scope"] == "office"


def test_node_of_the_programs_own_follows_its_host(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    with_settings = CacheNode(settings=hosts[1].settings)
    try:
        wait_until(lambda: with_settings.connected, what="it to follow")
        hosts[0].write({"a": 1})
        hosts.agree()
        assert with_settings.status()["role"] == "follower"
    finally:
        with_settings.stop()


def test_program_runs_on_a_host_in_memory(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].write({"a": 1})
    hosts.agree()
    program = "from miros_cache_net import Cache, Settings; Cache(Settings().file).update({'b': 2})"
    assert hosts[1].popen([sys.executable, "-c", program]).wait(60) == 0
    hosts.agree(on=lambda contents: contents == {"a": 1, "b": 2})


#: Prints its role once it is in step, without a broker that it could reach.
FOLLOWER = """
import threading
from miros_cache_net import CacheNode
node, tick = CacheNode(), threading.Event()
while not node.connected:
    tick.wait(0.01)
print(node.status()["role"])
node.stop()
"""


def test_a_networked_program_follows_a_host_in_memory(fleet: MakeFleet) -> None:
    hosts = fleet(1)
    program = hosts[0].popen([sys.executable, "-c", FOLLOWER], stdout=subprocess.PIPE, text=True)
    assert program.communicate(timeout=60)[0] == "follower\n"


def test_real_hosts_use_rabbitmq_and_can_be_cut(fleet: MakeFleet) -> None:
    hosts = fleet(3, real=True)
    assert "RabbitMQ" in hosts[0].status()["broker"]
    hosts[1].cut()
    wait_until(lambda: not hosts[1].connected, what="the cut to be noticed")
    hosts[0].write({"a": 1})
    hosts.agree(hosts[0], hosts[2], on=lambda contents: contents == {"a": 1})
    assert hosts[1].read() == {}
    hosts[1].heal()
    hosts.agree(on=lambda contents: contents == {"a": 1})
