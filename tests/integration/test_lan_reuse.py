"""A young document, from the file or from another host, means that nothing is sent into the network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.testing import NetworkHost, RabbitServer
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import AMPLE_S, SOURCES, clean_environment
from tests.integration.test_lan_networks import recce
from tests.lan_peers import LanPeers
from tests.outgoing import Outgoing

Networks = Callable[[int], tuple[NetworkHost, ...]]


class Program:
    """`tests.lan_chart_program` on a host."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def found(self) -> list[str]:
        """The hosts of the next ``CONNECTION_DISCOVERY``."""
        assert self._process.stdout is not None
        hosts: list[str] = json.loads(self._process.stdout.readline())
        return hosts

    def found_in_the_end(self, hosts: list[str]) -> None:
        while self.found() != hosts:
            pass


@contextmanager
def program(host: NetworkHost, file: Path, *arguments: str, **settings: str) -> Iterator[Program]:
    given = {"MIROS_CACHE_TRUSTED_NETWORKS": "auto", "MIROS_CACHE_FILE": str(file), **settings}
    process = host.popen(
        [sys.executable, "-m", "tests.lan_chart_program", *arguments],
        env=clean_environment(file.parent, **given),
        cwd=SOURCES,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Program(process)
    finally:
        process.communicate(timeout=AMPLE_S)


def test_young_file_gives_peers_without_a_packet(network_namespaces: Networks, tmp_path: Path) -> None:
    here, there = network_namespaces(2)
    file = tmp_path / "lan.json"
    with Cache(file) as cache:
        cache.write({"addresses": [there.address], "time_out_in_minutes": 30})
    with LanPeers(there, open=[there.address]), Outgoing(here) as out, program(here, file) as lan:
        assert lan.found() == [there.address]
    assert out.destinations == []


def test_the_watch_on_what_leaves_sees_a_sweep(network_namespaces: Networks, tmp_path: Path) -> None:
    """The test above could not fail if it did not."""
    here, there = network_namespaces(2)
    with LanPeers(there, open=[there.address]), Outgoing(here) as out, program(here, tmp_path / "lan.json") as lan:
        lan.found_in_the_end([there.address])
    assert len(out.destinations) == 253


@pytest.fixture
def real_brokers(network_namespaces: Networks) -> Iterator[tuple[list[NetworkHost], list[RabbitServer]]]:
    """Four hosts of one network; the last two have a RabbitMQ."""
    hosts = list(network_namespaces(4))
    with ExitStack() as stack:
        brokers = [stack.enter_context(RabbitServer(on=host)) for host in hosts[2:]]
        yield hosts, brokers


def test_second_host_reuses_peers_without_a_sweep(
    real_brokers: tuple[list[NetworkHost], list[RabbitServer]], tmp_path: Path
) -> None:
    (first, second, *_), brokers = real_brokers
    addresses = [broker.address for broker in brokers]
    found = recce(first, MIROS_CACHE_EXCHANGE="amq.topic")
    assert found["checks"] == dict.fromkeys(addresses, "ok")
    assert set(recce(first)["checks"].values()) == {"no_exchange"}

    settings: dict[str, Any] = {
        "MIROS_CACHE_AMQP_URL": f"amqp://guest:guest@{addresses[0]}",
        # a first host is alone after three of them
        "MIROS_CACHE_ANSWER_TIMEOUT_S": "0.5",
        "MIROS_CACHE_KEYS": generate_key().decode(),
        "MIROS_CACHE_DOCUMENT": "lan",
    }
    files = [tmp_path / name / "lan.json" for name in ("first", "second")]
    for file in files:
        file.parent.mkdir()
    with program(first, files[0], "node", MIROS_CACHE_NODE_NAME="first", **settings) as lan:
        # only the broker that the node is connected to has the fleet's exchange
        lan.found_in_the_end(addresses[:1])
        other = program(second, files[1], "node", MIROS_CACHE_NODE_NAME="second", **settings)
        # its answers to the sweep of the first one have left it a neighbour that its kernel would ask after
        second.run(["ip", "neighbour", "flush", "all"])
        with Outgoing(second) as out, other as reused:
            reused.found_in_the_end(addresses[:1])
    assert read_cache(files[1]).origin.startswith("first")
    assert out.destinations == addresses[:1], "it has spoken with more than its broker"
