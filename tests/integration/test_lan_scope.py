"""Whose LAN document a host shares: that of its site and its network, on one broker for all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.testing import Network, NetworkHost, RabbitServer
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import AMPLE_S, SOURCES, clean_environment
from tests.integration.test_lan_reuse import Program, program

Hosts = tuple[RabbitServer, NetworkHost, NetworkHost, NetworkHost]


class Site:
    """Hosts of one fleet, by its broker's address."""

    def __init__(self, directory: Path, broker: str) -> None:
        self.directory, self.broker = directory, broker
        self.settings = {
            "MIROS_CACHE_AMQP_URL": f"amqp://guest:guest@{broker}",
            # a first host is alone after three of them
            "MIROS_CACHE_ANSWER_TIMEOUT_S": "0.5",
            "MIROS_CACHE_KEYS": generate_key().decode(),
            "MIROS_CACHE_DOCUMENT": "lan",
        }

    def file(self, name: str) -> Path:
        (self.directory / name).mkdir(exist_ok=True)
        return self.directory / name / "lan.json"

    @contextmanager
    def node(self, host: NetworkHost, name: str, **settings: str) -> Iterator[Program]:
        """A program with a `CacheNode` and a `LanChart`, once it knows the broker."""
        given = {**self.settings, "MIROS_CACHE_NODE_NAME": name, **settings}
        with program(host, self.file(name), "node", **given) as lan:
            lan.found_in_the_end([self.broker])
            yield lan

    def finder(self, name: str) -> str:
        """The node whose discovery the file of `name` holds."""
        peer = f"peer:{self.broker}"
        with Cache(self.file(name)) as cache:
            known = cache.wait(lambda payload: peer in payload.dict, timeout_s=AMPLE_S)
        assert known is not None
        return str(known.dict[peer]["by"])

    def command(self, host: NetworkHost, name: str, *arguments: str, **settings: str) -> Any:
        """What `miros-cache-net ... --json` prints on `host`, with the file of `name`."""
        given = {**self.settings, "MIROS_CACHE_FILE": str(self.file(name)), "MIROS_CACHE_TRUSTED_NETWORKS": "auto"}
        finished = host.run(
            [sys.executable, "-m", "miros_cache_net", *arguments, "--json"],
            env=clean_environment(self.directory, **{**given, **settings}),
            cwd=SOURCES,
            check=False,
        )
        assert finished.stdout, finished.stderr
        return json.loads(finished.stdout)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """A broker, two hosts on its network, and one that takes the network for a smaller one."""
    with Network(4) as (there, first, second, third):
        third.run(["ip", "address", "delete", f"{third.address}/24", "dev", "eth0"])
        third.run(["ip", "address", "add", f"{third.address}/25", "dev", "eth0"])
        with RabbitServer(on=there) as broker:
            yield broker, first, second, third


@pytest.fixture
def site(hosts: Hosts, tmp_path: Path) -> Site:
    return Site(tmp_path, hosts[0].address)


def test_hosts_of_one_site_and_network_share_lan(hosts: Hosts, site: Site) -> None:
    _broker, first, second, third = hosts
    network = first.address.rpartition(".")[0] + ".0"
    with site.node(first, "first", MIROS_CACHE_SITE="lab"):
        with site.node(second, "second", MIROS_CACHE_SITE="lab"):
            assert site.finder("second") == "first"
            nodes = site.command(second, "second", "status", MIROS_CACHE_SITE="lab")["nodes"]
        assert {node["scope"] for node in nodes} == {f"lab/{network}%2F24"}
        with site.node(second, "elsewhere", MIROS_CACHE_SITE="office"):
            assert site.finder("elsewhere") == "elsewhere"
        with site.node(third, "other-network", MIROS_CACHE_SITE="lab"):
            assert site.finder("other-network") == "other-network"
        assert site.finder("first") == "first"


def test_discover_asks_nodes_of_its_own_site(hosts: Hosts, site: Site) -> None:
    broker, first, second, _third = hosts
    with site.node(first, "first", MIROS_CACHE_SITE="lab"):
        for name, answer in (("lab", "ok"), ("office", "nobody_answered")):
            found = site.command(second, name, "discover", "--force", broker.address, MIROS_CACHE_SITE=name)
            assert [check["reason"] for check in found["checks"]] == [answer]


def test_given_scope_goes_before_the_network(hosts: Hosts, site: Site) -> None:
    _broker, first, _second, third = hosts
    shared = {"MIROS_CACHE_SITE": "lab", "MIROS_CACHE_SCOPE": "fleet"}
    with site.node(first, "first", **shared), site.node(third, "third", **shared):
        assert site.finder("third") == "first"
