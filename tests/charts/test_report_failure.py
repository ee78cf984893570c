"""A peer that a program could not reach: gone from every host's document if it is really gone, and back when it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.probe import Prober
from miros_cache_net.charts.lan import LanChart
from miros_cache_net.settings import Settings
from miros_cache_net.testing import free_port, wait_until
from tests.fake_servers import FakeServer, generous_rabbit
from tests.hosts import Host, Hosts, agree, fleet


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with fleet(tmp_path, MemoryBroker()) as made:
        yield made


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


@pytest.fixture
def lan_on(stopping: Callable[[Any], Any], prober: Prober) -> Callable[[Host], LanChart]:
    def build(host: Host) -> LanChart:
        chart: LanChart = stopping(
            LanChart(
                "cache.#",
                "mesh",
                candidates=list,
                settings=Settings(scout_timeout_s=20, node_name="scout"),
                prober=prober,
                cache_file_chart=host.node.file_chart,
            )
        )
        return chart

    return build


def document(*peers: str) -> dict[str, Any]:
    urls = [f"amqp://guest@{peer}/%2F" for peer in peers]
    entries = {f"peer:{peer}": {"seen_at": 1, "by": "alpha", "round_trip_s": 0.1} for peer in peers}
    return {"addresses": list(peers), "amqp_urls": urls, "time_out_in_minutes": 30, **entries}


def peers_of(host: Host) -> list[str]:
    return list(host.contents.get("addresses", ()))


def test_a_peer_that_is_gone_leaves_every_hosts_document_and_returns_when_it_is_back(
    hosts: Hosts, lan_on: Callable[[Host], LanChart]
) -> None:
    alpha, beta = hosts.joined("alpha"), hosts.joined("beta")
    port = free_port()
    gone = f"127.0.0.1:{port}"
    with FakeServer(generous_rabbit) as server:
        good = f"127.0.0.1:{server.port}"
        alpha.cache.write(document(good, gone))
        agree(alpha, beta, on=lambda contents: gone in contents.get("addresses", ()))
        lan = lan_on(beta)
        lan.report_failure(gone)
        agree(alpha, beta, on=lambda contents: contents["addresses"] == [good])
        assert f"peer:{gone}" not in alpha.contents
        assert alpha.contents["amqp_urls"] == [alpha.contents["amqp_urls"][0]]
        with FakeServer(generous_rabbit, port=port):
            agree(alpha, beta, on=lambda contents: contents["addresses"] == [good, gone], timeout_s=30)
        assert alpha.contents[f"peer:{gone}"]["by"] == "scout"


def test_a_peer_that_answers_stays_and_the_document_does_not_become_younger(
    hosts: Hosts, lan_on: Callable[[Host], LanChart]
) -> None:
    alpha = hosts.joined("alpha")
    with FakeServer(generous_rabbit) as server:
        good = f"127.0.0.1:{server.port}"
        version = alpha.cache.write(document(good)).version
        lan_on(alpha).report_failure(good)
        wait_until(lambda: server.visits, what="the scout")
    assert peers_of(alpha) == [good]
    assert alpha.cache.read().version == version


def test_an_address_that_is_no_peer_is_not_dialled(hosts: Hosts, lan_on: Callable[[Host], LanChart]) -> None:
    alpha = hosts.joined("alpha")
    with FakeServer(generous_rabbit) as good, FakeServer(generous_rabbit) as stranger:
        alpha.cache.write(document(f"127.0.0.1:{good.port}"))
        lan = lan_on(alpha)
        for address in (f"127.0.0.1:{stranger.port}", "", "no address at all", "[::"):
            lan.report_failure(address)
        lan.report_failure(f"127.0.0.1:{good.port}")
        wait_until(lambda: good.visits, what="the scout")
        assert not stranger.visits
