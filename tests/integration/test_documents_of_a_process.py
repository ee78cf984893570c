"""Documents of one process: nodes of their own, on one link."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from miros_cache_net import Cache, CacheNode, Settings
from miros_cache_net.testing import Fleet, RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.integration.rabbit_links import NewConnections, NewSockets

NAMES = [f"document{number}.json" for number in range(5)]


@contextmanager
def node_of(path: Path, settings: Settings) -> Iterator[CacheNode]:
    node = CacheNode(path, settings)
    try:
        yield node
    finally:
        node.stop()


def in_step(node: CacheNode) -> None:
    wait_until(lambda: node.connected, 60, "a node to be in step")


@pytest.fixture
def key() -> str:
    return generate_key().decode()


@pytest.fixture
def nodes(tmp_path: Path, rabbit_server: RabbitServer, rabbit_url: str, key: str) -> Iterator[list[CacheNode]]:
    """One a document, in this process, in step."""
    settings = Settings(amqp_urls=rabbit_url, keys=key, node_name="alpha")
    (tmp_path / "alpha").mkdir()
    with ExitStack() as stack:
        made = [stack.enter_context(node_of(tmp_path / "alpha" / name, settings)) for name in NAMES]
        for node in made:
            in_step(node)
        yield made


def test_five_documents_of_a_process_have_two_connections(
    tmp_path: Path, rabbit_server: RabbitServer, rabbit_url: str, key: str
) -> None:
    settings = Settings(amqp_urls=rabbit_url, keys=key, node_name="alpha")
    at_broker, sockets = NewConnections(rabbit_server), NewSockets(rabbit_server.port)
    nodes = [CacheNode(tmp_path / name, settings) for name in NAMES]
    try:
        for node in nodes:
            in_step(node)
        wait_until(lambda: at_broker.count() == 2, what="two connections at the broker")
    finally:
        for number, node in enumerate(nodes):
            assert sockets.count() == 2
            assert all(each.connected for each in nodes[number:])
            node.stop()
    assert sockets.count() == 0
    wait_until(lambda: at_broker.count() == 0, what="the broker to have seen the end")


def test_each_document_reaches_its_own_on_another_host(
    tmp_path: Path, nodes: list[CacheNode], rabbit_url: str, key: str
) -> None:
    (tmp_path / "beta").mkdir()
    other = Settings(amqp_urls=rabbit_url, keys=key, node_name="beta")
    with ExitStack() as stack:
        for name in NAMES:
            in_step(stack.enter_context(node_of(tmp_path / "beta" / name, other)))
        nodes[0].stop()
        for name in NAMES:
            with Cache(tmp_path / "alpha" / name) as here, Cache(tmp_path / "beta" / name) as there:
                there.write({"from": "beta", "document": name})
                if name != NAMES[0]:
                    wait_until(lambda: here.read().dict == there.read().dict, 30, f"{name} to arrive")
                else:
                    assert not here.read().dict
    assert [node.connected for node in nodes[1:]] == [True] * 4


def test_refused_document_keeps_no_other_from_the_fleet(tmp_path: Path, rabbit_server: RabbitServer, key: str) -> None:
    url = rabbit_server.add_user("no-scanners", "pw")
    rabbit_server.ctl("set_permissions", "no-scanners", ".*", ".*", "^(?!scanners).*")
    common = {"amqp_urls": url, "keys": key, "node_name": "alpha"}
    refused = Settings(**common, exchange="scanners")
    with (
        node_of(tmp_path / "printers.json", Settings(**common)) as printers,
        node_of(tmp_path / "scanners.json", refused) as scanners,
    ):
        wait_until(lambda: "set_permissions" in scanners.status()["trouble"], 30, "the refusal to be told")
        in_step(printers)
        assert not scanners.connected
        with node_of(tmp_path / "plotters.json", Settings(**common)) as plotters:
            in_step(plotters)
        rabbit_server.ctl("set_permissions", "no-scanners", ".*", ".*", ".*")
        in_step(scanners)
        assert printers.connected
        assert printers.status()["counters"]["links_made"] == 1


def test_hosts_of_a_test_have_separate_links(tmp_path: Path, rabbit_server: RabbitServer, rabbit_url: str) -> None:
    at_broker = NewConnections(rabbit_server)
    with Fleet(tmp_path, rabbit_url) as fleet:
        for name in ("left", "right"):
            fleet.add(name, amqp_urls=rabbit_url, node_name="alike", document=name)
        wait_until(lambda: at_broker.count() == 4, what="two connections a host")
