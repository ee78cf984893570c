"""Discovery on real networks: namespaces on a bridge, with machines that are there, refuse, or say nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miros_cache_net.testing import NetworkHost, wait_until
from tests.cli_command import SOURCES, clean_environment
from tests.lan_peers import LanPeers

Networks = Callable[[int], tuple[NetworkHost, ...]]


def recce(host: NetworkHost, *candidates: str, **settings: str) -> dict[str, Any]:
    """What a program on `host` finds; it trusts its own subnets unless told otherwise."""
    given = {"MIROS_CACHE_TRUSTED_NETWORKS": "auto", "MIROS_CACHE_SCOUT_TIMEOUT_S": "20", **settings}
    finished = host.run(
        [sys.executable, "-m", "tests.lan_program", *candidates],
        env=clean_environment(Path("/nonexistent"), **given),
        cwd=SOURCES,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def speak(host: NetworkHost, address: str) -> None:
    """Make a neighbour of it, as any traffic does."""
    code = "import socket, sys; socket.create_connection((sys.argv[1], 5672), 10).close()"
    host.run([sys.executable, "-S", "-c", code, address])


def others(host: NetworkHost, *numbers: int) -> list[str]:
    subnet = host.address.rpartition(".")[0]
    return [f"{subnet}.{number}" for number in numbers]


def has_carrier(host: NetworkHost, interface: str) -> bool:
    (link,) = json.loads(host.run(["ip", "-j", "link", "show", "dev", interface]).stdout)
    return "LOWER_UP" in link["flags"] and link["operstate"] == "UP"


def second_cable(host: NetworkHost, beside: NetworkHost, address: str, *, interface: str = "eth1") -> None:
    """Another interface of `host`, on the network that `beside` is on."""
    port = f"{interface}x"
    switch = beside._switch
    ip = ["ip", "-n", host.name]
    subprocess.run([*ip, "link", "add", interface, "type", "veth", "peer", "name", port, "netns", switch], check=True)
    subprocess.run(["ip", "-n", switch, "link", "set", port, "master", "bridge0", "up"], check=True)
    subprocess.run([*ip, "address", "add", address, "dev", interface], check=True)
    subprocess.run([*ip, "link", "set", interface, "up"], check=True)


# --- one network ------------------------------------------------------------------------------------


def test_sweep_finds_brokers_among_refusing_and_silent_hosts(network_namespaces: Networks) -> None:
    here, there = network_namespaces(2)
    good, late = others(there, 10, 77, 250), others(there, 20, 30, 40)
    with LanPeers(there, open=good, late=late, silent=others(there, 50), refusing=others(there, 60, 61)):
        found = recce(here)
    assert sorted(found["other_addresses"]) == sorted(good + late)
    assert found["checks"] == dict.fromkeys(found["other_addresses"], "ok")
    assert (found["my_address"], found["request"], found["failed"]) == (here.address, "asked", "")
    assert found["swept"] == 253, "all of the subnet but its own address, the network's and the broadcast's"
    sweep = [each for each in found["progress"] if each[0] == "sweep"]
    assert sweep[-1] == ["sweep", 253, 253, 6]
    assert [each[1] for each in sweep] == sorted(each[1] for each in sweep)
    assert found["progress"][-1] == ["scout", 6, 6, 6]
    # there.address, the tester's and two more refuse; their neighbour entries say so, nobody else's do
    table = json.loads(here.run(["ip", "-j", "neighbour", "show", "nud", "reachable"]).stdout)
    assert {each["dst"] for each in table} >= set(good)


def test_own_subnets_are_trusted_only_on_request(
    network_namespaces: Networks,
) -> None:
    here, there = network_namespaces(2)
    with LanPeers(here, open=[here.address]), LanPeers(there, open=[there.address]):
        assert recce(here)["checks"] == {there.address: "ok"}
        loopback = recce(here, MIROS_CACHE_TRUSTED_NETWORKS="127.0.0.0/8")
    assert loopback["checks"] == {there.address: "not_trusted"}
    assert loopback["other_addresses"] == []


def test_every_port_of_the_settings_brokers_is_asked(network_namespaces: Networks) -> None:
    here, there = network_namespaces(2)
    with LanPeers(there, open=others(there, 10), port=5999), LanPeers(there, open=others(there, 11)):
        found = recce(here, MIROS_CACHE_AMQP_URL="amqp://localhost:5672,amqp://localhost:5999")
    (first,), (second,) = others(there, 11), others(there, 10)
    assert sorted(found["other_addresses"]) == sorted([first, f"{second}:5999"])


def test_too_large_network_is_declined_with_the_remedy(
    network_namespaces: Networks,
) -> None:
    here, there = network_namespaces(2)
    for host, number in ((here, 1), (there, 2)):
        host.run(["ip", "address", "flush", "dev", "eth0"])
        host.run(["ip", "address", "add", f"10.9.0.{number}/21", "dev", "eth0"])
    known, unknown = "10.9.7.7", "10.9.7.8"
    with LanPeers(there, open=[known, unknown], prefix=21):
        nobody = recce(here)
        assert nobody["failed"] == nobody["declined"][0]
        speak(here, known)
        found = recce(here)
        assert (found["other_addresses"], found["swept"], found["failed"]) == ([known], 1, "")
        assert "10.9.0.0/21 (eth0) is larger than a /22" in found["declined"][0]
        assert "MIROS_CACHE_SWEEP_PREFIX=21" in found["declined"][0]


def test_network_beyond_the_neighbour_table_is_swept_whole(network_namespaces: Networks) -> None:
    here, there = network_namespaces(2)
    for host, number in ((here, 1), (there, 2)):
        host.run(["ip", "address", "flush", "dev", "eth0"])
        host.run(["ip", "address", "add", f"10.9.0.{number}/21", "dev", "eth0"])
    good = ["10.9.0.2", "10.9.3.255", "10.9.4.0", "10.9.5.77", "10.9.6.1", "10.9.7.254"]
    with LanPeers(there, open=good, prefix=21):
        found = recce(here, MIROS_CACHE_SWEEP_PREFIX="21")
    assert (found["other_addresses"], found["swept"]) == (good, 2045)


def test_few_descriptors_make_the_sweep_slower_not_wrong(network_namespaces: Networks) -> None:
    here, there = network_namespaces(2)
    for host, number in ((here, 1), (there, 2)):
        host.run(["ip", "address", "flush", "dev", "eth0"])
        host.run(["ip", "address", "add", f"10.9.0.{number}/27", "dev", "eth0"])
    good = ["10.9.0.2", "10.9.0.29", "10.9.0.30"]
    with LanPeers(there, open=good, prefix=27):
        finished = here.run(
            ["sh", "-c", f"ulimit -n 96; exec {sys.executable} -m tests.lan_program"],
            env=clean_environment(Path("/nonexistent"), MIROS_CACHE_TRUSTED_NETWORKS="auto"),
            cwd=SOURCES,
        )
    found = json.loads(finished.stdout)
    assert (found["other_addresses"], found["swept"]) == (good, 29)


def test_no_privilege_and_no_other_program_is_needed(network_namespaces: Networks) -> None:
    here, there = network_namespaces(2)
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    with LanPeers(there, open=others(there, 10)):
        finished = here.run(
            [*bare, "env", "PATH=/nonexistent", sys.executable, "-m", "tests.lan_program"],
            env=clean_environment(Path("/nonexistent"), MIROS_CACHE_TRUSTED_NETWORKS="auto"),
            cwd=SOURCES,
        )
        status = here.run([*bare, sys.executable, "-S", "-c", "print(open('/proc/self/status').read())"]).stdout
    assert json.loads(finished.stdout)["other_addresses"] == others(there, 10)
    assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE), "the test above had privileges"


def test_a_machine_without_any_network_says_so(network_namespaces: Networks) -> None:
    (here,) = network_namespaces(1)
    here.run(["ip", "link", "set", "eth0", "down"])
    found = recce(here)
    assert "no interface but loopback is up" in found["failed"]
    assert (found["other_addresses"], found["my_address"]) == ([], "127.0.0.1")


# --- IPv6 -------------------------------------------------------------------------------------------


def test_ipv6_neighbour_is_found_once(
    network_namespaces: Networks,
) -> None:
    here, both, only6 = network_namespaces(3)
    only6.run(["ip", "-4", "address", "flush", "dev", "eth0"])
    here.run(["ip", "address", "add", "fd00:9::1/64", "dev", "eth0", "nodad"])
    with LanPeers(both, open=[both.address, "fd00:9::2"]), LanPeers(only6, open=["fd00:9::3"]):
        for address in ("fd00:9::2", "fd00:9::3"):
            speak(here, address)
        found = recce(here)
    assert sorted(found["other_addresses"]) == sorted([both.address, "fd00:9::3"])


# --- several networks -------------------------------------------------------------------------------


def test_machines_on_two_lans_find_their_own(
    network_namespaces: Networks,
) -> None:
    left, router = network_namespaces(2)
    (right,) = network_namespaces(1)
    beyond = right.address.rpartition(".")[0]
    second_cable(router, right, f"{beyond}.200/24")
    router.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    left.run(["ip", "route", "add", "default", "via", router.address])
    right.run(["ip", "route", "add", "default", "via", f"{beyond}.200"])
    with LanPeers(left, open=[left.address]), LanPeers(right, open=[right.address]):
        assert sorted(recce(router)["other_addresses"]) == sorted([left.address, right.address])
        assert recce(left)["other_addresses"] == []
        told = recce(left, right.address, MIROS_CACHE_TRUSTED_NETWORKS=f"{beyond}.0/24")
    assert (told["other_addresses"], told["swept"]) == ([right.address], 0)


def test_containers_on_a_docker_bridge_are_found(
    network_namespaces: Networks,
) -> None:
    here, container = network_namespaces(2)
    for bridge, subnet in (("docker0", "172.30.1"), ("br-0123456789ab", "172.30.2")):
        here.run(["ip", "link", "add", bridge, "type", "bridge"])
        here.run(["ip", "address", "add", f"{subnet}.1/24", "dev", bridge])
        here.run(["ip", "link", "set", bridge, "up"])
    # a container that has ended leaves its bridge without carrier
    here.run(["ip", "link", "add", "veth9", "type", "veth", "peer", "name", "veth10"])
    here.run(["ip", "link", "set", "veth9", "master", "br-0123456789ab", "up"])
    here.run(["ip", "link", "add", "veth1", "type", "veth", "peer", "name", "eth1", "netns", container.name])
    here.run(["ip", "link", "set", "veth1", "master", "docker0", "up"])
    container.run(["ip", "address", "add", "172.30.1.2/24", "dev", "eth1"])
    container.run(["ip", "link", "set", "eth1", "up"])
    # the kernel takes up to a second to notice
    wait_until(lambda: not has_carrier(here, "br-0123456789ab") and has_carrier(here, "docker0"))
    with LanPeers(container, open=["172.30.1.2"]):
        found = recce(here)
    assert (found["other_addresses"], found["swept"]) == (["172.30.1.2"], 253 + 253)
