"""A broker on every host: the same program, which finds the others, sends to all and goes on without those that die."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import SOURCES, clean_environment

PROGRAM = Path(__file__).with_name("chart_program.py")


@pytest.fixture(scope="module")
def brokers() -> Iterator[list[RabbitServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RabbitServer()) for _ in range(3)]


class Host:
    """One program, and what it has said."""

    def __init__(self, name: str, directory: Path, environment: dict[str, str]) -> None:
        self.name, self._directory = name, directory
        directory.mkdir(exist_ok=True)
        self._output = (directory / "out").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), name],
            cwd=directory,
            env=clean_environment(directory, PYTHONPATH=str(SOURCES), **environment),
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    @property
    def said(self) -> list[dict[str, Any]]:
        lines = (self._directory / "out").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def heard(self) -> list[Any]:
        return [line["heard"] for line in self.said if "heard" in line]

    def status(self) -> dict[str, Any]:
        before = len([line for line in self.said if "peers" in line])
        self.tell("status")
        wait_until(lambda: len([line for line in self.said if "peers" in line]) > before, 30, "a status")
        return [line for line in self.said if "peers" in line][-1]

    def stop(self) -> None:
        self.tell("stop")
        assert self._process.wait(60) == 0, (self._directory / "out").read_text()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._output.close()


StartHost = Callable[..., Host]


@pytest.fixture
def start_host(tmp_path: Path, brokers: list[RabbitServer]) -> Iterator[StartHost]:
    """Starts the program of the host whose broker is the one of that number; it looks for all three."""
    for broker in brokers:
        broker.start()
    hosts: list[Host] = []
    key = generate_key().decode()

    def start(number: int, discover: str = "", **more: str) -> Host:
        environment = {
            "RABBIT_USER": "guest",
            "RABBIT_PASSWORD": "guest",
            "RABBIT_PORT": str(brokers[number].port),
            "MESH_ENCRYPTION_KEY": key,
            "MIROS_CACHE_DISCOVER": discover or ",".join(f"127.0.0.1:{broker.port}" for broker in brokers),
            **more,
        }
        hosts.append(Host(f"n{number}", tmp_path / f"host-{number}", environment))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


def all_hear(sender: Host, hosts: list[Host], payload: object) -> None:
    """Send until every other one has heard it."""

    def heard() -> bool:
        sender.tell(f"B {json.dumps(payload)}")
        wait_until(lambda: all(payload in host.heard for host in hosts if host is not sender), 1)
        return True

    wait_until(heard, 60, f"{payload!r} to reach all")


def test_three_hosts_hear_each_other_over_h_plus_1_connections(
    start_host: StartHost, brokers: list[RabbitServer], tmp_path: Path
) -> None:
    hosts = [start_host(number) for number in range(3)]
    for host in hosts:
        all_hear(host, hosts, f"from {host.name}")
    assert [len(host.status()["peers"]) for host in hosts] == [2, 2, 2]
    # at each broker its own host's two, and one of each of the others
    for broker in brokers:
        wait_until(lambda broker=broker: broker.connection_count() == 2 + 2, 30, "H + 1 connections of each of H hosts")
    hosts[0].tell('B "once"')
    all_hear(hosts[0], hosts, "after")
    assert [host.heard.count("once") for host in hosts] == [0, 1, 1]
    for host in hosts:
        host.stop()
    for broker in brokers:
        wait_until(lambda broker=broker: broker.connection_count() == 0, 30)
        assert "amq.gen" not in broker.ctl("list_queues", "name")


def test_a_warm_start_knows_the_others_from_the_file(start_host: StartHost, tmp_path: Path) -> None:
    hosts = [start_host(number) for number in range(3)]
    for host in hosts:
        all_hear(host, hosts, f"from {host.name}")
    hosts[0].stop()
    document = json.loads((tmp_path / "host-0" / ".miros_rabbitmq_lan_cache.json").read_text())
    assert sum(key.startswith("peer:") for key in document) >= 2 and "guest:guest" not in json.dumps(document)
    again = start_host(0)
    again.tell('B "warm"')
    for host in hosts[1:]:
        wait_until(lambda host=host: "warm" in host.heard, 60, "what was sent before the first connection stood")


def test_a_dead_broker_delays_only_its_own_messages(start_host: StartHost, brokers: list[RabbitServer]) -> None:
    hosts = [start_host(number) for number in range(3)]
    for host in hosts:
        all_hear(host, hosts, f"from {host.name}")
    brokers[2].kill()
    for n in range(600):
        hosts[0].tell(f"B {n}")
    wait_until(lambda: hosts[1].heard[-600:] == list(range(600)), 60, "the living to hear all")
    brokers[2].start()
    wait_until(lambda: 599 in hosts[2].heard, 60, "what was sent meanwhile")
    assert [n for n in hosts[2].heard if isinstance(n, int)][-100:] == list(range(500, 600))
    all_hear(hosts[2], hosts, "back")


def test_a_late_host_is_found_by_its_hearers(start_host: StartHost, brokers: list[RabbitServer]) -> None:
    brokers[1].stop()
    early = start_host(0)
    wait_until(lambda: len(early.status()["peers"]) == 1, 60, "the first look around")
    brokers[1].start()
    late = start_host(1, MIROS_CACHE_MESH_SENDER="10.99.99.99")
    all_hear(late, [early], "here I am")
    all_hear(early, [late], "welcome")


def test_two_names_of_one_broker_are_one(start_host: StartHost, brokers: list[RabbitServer]) -> None:
    ports = [broker.port for broker in brokers]
    sender = start_host(0, f"127.0.0.1:{ports[1]},localhost:{ports[1]},localhost:{ports[0]}")
    receiver = start_host(1)
    all_hear(sender, [receiver], "first")
    wait_until(lambda: len(sender.status()["peers"]) == 1, 30, "one peer")
    wait_until(lambda: brokers[1].connection_count() == 3, 30)
    sender.tell('B "once"')
    all_hear(sender, [receiver], "after")
    assert receiver.heard.count("once") == 1
