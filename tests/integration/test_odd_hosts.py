"""Hosts as an operator makes them without meaning to: no IPv6, and one volume mounted in two of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from miros_cache_net.testing import Fleet, NetworkHost, RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import COMMAND, clean_environment

Networks = Callable[[int], tuple[NetworkHost, ...]]
OWN_NAMES = ("unshare", "--mount", "sh", "-c", 'mount --bind hosts /etc/hosts && exec "$@"', "sh")


def test_host_without_ipv6_uses_the_names_other_address(network_namespaces: Networks, tmp_path: Path) -> None:
    here, there = network_namespaces(2)
    here.run(["sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"])
    assert here.run(["ip", "-6", "address"]).stdout == ""
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost\nfd00::1 broker\n{there.address} broker\n")
    command, log = here.command([*OWN_NAMES, *COMMAND]), tmp_path / "log"
    with RabbitServer(on=there) as server, log.open("w") as said:
        settings = clean_environment(
            tmp_path,
            MIROS_CACHE_KEYS=generate_key().decode(),
            MIROS_CACHE_AMQP_URL=f"amqp://guest:guest@broker:{server.port}",
            MIROS_CACHE_TRUSTED_NETWORKS="auto",
        )
        node = subprocess.Popen([*command, "node"], cwd=tmp_path, env=settings, stdout=said, stderr=said)
        try:
            wait_until(lambda: "in step with the fleet" in log.read_text(), 60, "it to join")
            for asked in ("health", "discover"):
                done = subprocess.run([*command, asked], cwd=tmp_path, env=settings, check=False, capture_output=True)
                assert done.returncode == 0, done
        finally:
            node.terminate()
            node.wait()


def test_one_volume_in_two_hosts_makes_them_one(network_namespaces: Networks, tmp_path: Path) -> None:
    places = network_namespaces(3)
    with (
        RabbitServer(config="loopback_users = none", address=places[0].tester_address) as server,
        Fleet(tmp_path, server) as hosts,
    ):
        alpha, other = (hosts.add(name, on=on) for name, on in zip(("alpha", "other"), places[:2], strict=True))
        twin = hosts.add("twin", on=places[2], file=str(alpha.settings.file))
        assert (alpha.status()["role"], twin.status()["role"]) == ("bridge", "follower")
        assert len(other.processes[0].ask("fleet_status")) == 2, "two hosts"
        twin.update({"by the twin": 1})
        hosts.agree(on=lambda contents: contents == {"by the twin": 1})
        alpha.kill()
        wait_until(lambda: twin.status()["role"] == "bridge", 60, "the twin to take over")
        other.update({"by the other": 2})
        hosts.agree(other, twin, on=lambda contents: contents == {"by the twin": 1, "by the other": 2})
