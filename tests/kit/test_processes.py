"""Fleets of processes, on this machine's network and in namespaces, as the kit's users see them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from miros_cache_net.errors import NoSpace
from miros_cache_net.testing import (
    Fleet,
    MemoryBroker,
    NodeProcess,
    NodeProcessFailed,
    NotRunning,
    NotThisKind,
    wait_until,
)

MakeFleet = Callable[..., Fleet]


@pytest.mark.parametrize("kind", ["process", "namespace"])
def test_killed_host_and_cut_host_catch_up(fleet: MakeFleet, kind: str) -> None:
    hosts = fleet(3, kind=kind)
    hosts[1].cut()
    hosts[2].kill()
    hosts[0].write({"a": 1})
    assert not hosts[2].running
    assert hosts[1].read() == hosts[2].read() == {}
    hosts[1].heal()
    hosts[2].start()
    hosts.agree(on=lambda contents: contents == {"a": 1})


@pytest.mark.parametrize("kind", ["process", "namespace"])
def test_a_host_that_is_cut_off_notices(fleet: MakeFleet, kind: str) -> None:
    hosts = fleet(1, kind=kind)
    hosts[0].cut()
    wait_until(lambda: not hosts[0].connected, timeout_s=60, what="the cut to be noticed")
    hosts[0].heal()
    hosts[0].wait_joined()


def test_namespace_host_can_have_a_full_disk(fleet: MakeFleet) -> None:
    hosts = fleet(2, kind="namespace")
    hosts[1].fill_disk()
    with pytest.raises(NoSpace):
        hosts[1].update({"b": 2})
    hosts[0].write({"a": 1})
    assert hosts[1].read() == {}
    hosts[1].free_disk()
    hosts.agree(on=lambda contents: contents == {"a": 1})


def test_a_process_has_the_time_of_its_host(fleet: MakeFleet) -> None:
    host = fleet(1, kind="process")[0]

    def ahead_s() -> float:
        return (host.status()["clock_ms"] - time.time() * 1000) / 1000

    host.skew(3600)
    assert ahead_s() > 3500
    host.kill()
    host.start()
    assert ahead_s() > 3500
    host.skew(0)
    assert abs(ahead_s()) < 100


def test_second_process_of_a_host_follows(fleet: MakeFleet) -> None:
    host = fleet(1, kind="process")[0]
    follower = host.spawn()
    wait_until(lambda: follower.status()["connected"], timeout_s=30, what="it to follow")
    assert follower.status()["role"] == "follower"
    host.write({"a": 1})
    follower.wait_for(signal="CACHE", contents={"a": 1}, connected=True)


def test_no_process_outlives_its_fleet(fleet: MakeFleet, tmp_path: Path) -> None:
    hosts = fleet(1, kind="process")
    processes = [hosts[0].spawn(), hosts[0].spawn()]
    processes[0].signal(signal.SIGSTOP)
    hosts.close()
    assert not any(psutil.pid_exists(each.pid) for each in processes)


def test_missing_feature_names_the_kind_it_needs(fleet: MakeFleet) -> None:
    with pytest.raises(NotThisKind, match="kind='process'"):
        fleet(1)[0].spawn()
    with pytest.raises(NotThisKind, match="kind='thread'"):
        _ = fleet(1, kind="process")[0].node
    with pytest.raises(NotThisKind, match="RabbitServer"), Fleet(Path(), MemoryBroker(), kind="process") as hosts:
        hosts.add()


def test_a_killed_host_has_no_status(fleet: MakeFleet) -> None:
    host = fleet(1, kind="process")[0]
    (process,) = host.processes
    host.kill()
    host.kill()
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(NotRunning):
        host.status()


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    process = NodeProcess({"file": str(tmp_path / "cache.json"), "keys": "no key"}, tmp_path)
    with pytest.raises(NodeProcessFailed, match="SettingsError"):
        process.wait_for_start()
    with pytest.raises(NodeProcessFailed, match="has ended"):
        process.tell("status")
    process.stop()


def test_a_command_that_fails_says_why(fleet: MakeFleet) -> None:
    process = fleet(1, kind="process")[0].spawn()
    with pytest.raises(NodeProcessFailed, match="KeyError: 'dance'"):
        process.ask("dance")


def test_fleet_key_is_in_no_process_listing(fleet: MakeFleet) -> None:
    hosts = fleet(1, kind="process")
    command_lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert not any(hosts.key in line for line in command_lines)
