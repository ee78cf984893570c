"""`health` as supervisors run it: the command in a process of its own, beside nodes of a real fleet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from miros_cache_net.testing import Fleet, Host, wait_until
from tests.cli_command import run

MakeFleet = Callable[..., Fleet]
#: Settings that no node could be made of: `health` does not look at them.
BROKEN = {"MIROS_CACHE_KEYS": "no key at all", "MIROS_CACHE_DIGEST_INTERVAL_S": "soon"}


def health(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(host.directory, "health", "--file", str(host.settings.file), *arguments, **BROKEN)


def checks(host: Host) -> dict[str, Any]:
    (node,) = json.loads(health(host, "--json").stdout)["nodes"]
    return {each["name"]: each["ok"] for each in node["checks"]}


def test_a_host_without_a_node_is_not_healthy(fleet: MakeFleet) -> None:
    hosts = fleet(1)
    hosts[0].stop()
    said = health(hosts[0])
    assert said.returncode == 1
    assert said.stdout.startswith("unhealthy: no node of this host serves ")
    assert said.stdout.count("\n") == 1 and said.stderr == ""
    assert json.loads(health(hosts[0], "--json").stdout)["nodes"] == []


def test_file_that_another_node_serves_is_named(fleet: MakeFleet) -> None:
    (host,) = fleet(1)
    other = host.settings.file.with_name("other.json")
    said = run(host.directory, "health", "--file", str(other))
    assert said.returncode == 1
    assert said.stdout == (
        f"unhealthy: no node of this host serves {other}; one serves {host.settings.file}: name it with --file\n"
    )


def test_healthy_host_says_so_in_one_line(fleet: MakeFleet) -> None:
    hosts = fleet(2, real=True)
    said = health(hosts[0])
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("healthy: host-0-") and "through RabbitMQ" in said.stdout
    assert said.stdout.count("\n") == 1
    assert all(checks(hosts[0]).values()) and len(checks(hosts[0])) == 9


def test_an_unhealthy_node_that_answers_is_alive(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].cut()
    wait_until(lambda: not hosts[0].connected, what="the cut to be noticed")
    assert health(hosts[0]).returncode == 1
    said = health(hosts[0], "--alive")
    assert (said.returncode, said.stdout.partition("-")[0]) == (0, "alive: host")
    hosts[0].stop()
    assert health(hosts[0], "--alive").returncode == 1


def test_host_out_of_touch_is_forgiven_as_asked(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    hosts[0].cut()
    wait_until(lambda: not hosts[0].connected, what="the cut to be noticed")
    assert health(hosts[0]).returncode == 1
    forgiven = health(hosts[0], "--max-out-of-touch-s", "3600")
    assert forgiven.returncode == 0 and "out of touch for" in forgiven.stdout
    assert health(hosts[0], "--max-out-of-touch-s", "0.01").returncode == 1
    hosts[0].heal()
    hosts[0].wait_joined()
    assert health(hosts[0]).returncode == 0


def test_unreadable_file_is_not_forgiven(fleet: MakeFleet) -> None:
    hosts = fleet(1)
    # in one step: a file that is missing for a moment is made anew, in the place of what is planted then
    pipe = hosts[0].directory / "pipe"
    os.mkfifo(pipe)
    pipe.replace(hosts[0].settings.file)
    wait_until(lambda: not checks(hosts[0])["file"], what="it to notice")
    assert health(hosts[0], "--max-out-of-touch-s", "3600").returncode == 1


def test_stopped_process_is_unhealthy_and_delays_nobody(fleet: MakeFleet) -> None:
    hosts = fleet(1, kind="process")
    process = hosts[0].processes[0]
    process.signal(signal.SIGSTOP)
    try:
        said = health(hosts[0], "--max-out-of-touch-s", "3600")
        assert said.returncode == 1 and "is its process stopped?" in said.stdout
    finally:
        process.signal(signal.SIGCONT)
    wait_until(lambda: health(hosts[0]).returncode == 0, what="it to answer again")


def test_only_the_host_with_another_key_is_unhealthy(fleet: MakeFleet) -> None:
    hosts = fleet(2, real=True)
    odd = hosts.add("odd", keys=Fleet(hosts[0].directory / "other").key)
    wait_until(lambda: not checks(odd)["understood"], timeout_s=30, what="it to notice")
    said = health(odd)
    assert said.returncode == 1 and "compare `miros-cache-net key list`" in said.stdout
    assert [health(host).returncode for host in hosts[:2]] == [0, 0]


def test_hosts_whose_documents_pass_a_cap_are_unhealthy(fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miros_cache_net.limits.DOCUMENT_KEYS", 3)
    hosts = fleet(2)
    hosts[0].write({})
    hosts.agree()
    for host in hosts:
        host.cut()
    for host in hosts:
        host.update({f"{host.name} {number}": number for number in range(2)})
        host.heal()
    wait_until(lambda: not any(checks(host)["caps"] for host in hosts), timeout_s=30, what="both to notice")
    assert "exceed a cap together" in health(hosts[0]).stdout
    hosts[0].write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})
    wait_until(lambda: all(health(host).returncode == 0 for host in hosts), what="all to be well")


def test_fewer_nodes_than_expected_are_a_no(fleet: MakeFleet) -> None:
    hosts = fleet(2, real=True)
    hosts[0].write({"a": 1})
    hosts.agree()

    def status(expected: str) -> subprocess.CompletedProcess[str]:
        return run(hosts[0].directory, "status", "--expect", expected, **settings)

    settings = {name: value for name, value in hosts[0].environment().items() if name.startswith("MIROS_CACHE")}
    assert status("2").returncode == 0
    said = status("3")
    assert said.returncode == 1 and "3 nodes expected, 2 answered" in said.stderr
