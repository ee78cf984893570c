"""`LanChart(node)` and `ManNetChart(node)`: everything else follows from the node and its settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.probe.prober import Prober
from miros_cache_net.events import CACHE_ERROR, CONNECTION_DISCOVERY, CONNECTION_READ, EVALUATE_HOSTS_FILE, event
from miros_cache_net.settings import Settings
from miros_cache_net.testing import Fleet, Host, free_port, wait_until
from tests.charts.recorder import Recorder
from tests.fake_servers import FakeServer, generous_rabbit

AMPLE_S = 30.0
#: An exchange of the older mesh: its peers are not asked for an answer that only a node of this fleet has.
MESH = "mesh"
Stopping = Callable[[Any], Any]


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


@pytest.fixture
def peer() -> Iterator[tuple[str, FakeServer]]:
    with FakeServer(generous_rabbit) as server:
        yield f"127.0.0.1:{server.port}", server


def host(hosts: Fleet, name: str, **settings: Any) -> Host:
    return hosts.add(name, scout_timeout_s=20, **settings)


def test_node_is_enough_to_share_one_discovery(
    hosts: Fleet, stopping: Stopping, prober: Prober, peer: tuple[str, FakeServer]
) -> None:
    address, server = peer
    alpha, beta = (host(hosts, name, discover=address, time_out_in_minutes=7) for name in ("alpha", "beta"))
    first = stopping(LanChart(alpha.node, MESH, prober=prober)).peers(AMPLE_S)
    second = stopping(LanChart(beta.node, MESH, prober=prober)).peers(AMPLE_S)
    assert first is not None and second is not None
    assert first.hosts == second.hosts == [address]
    assert first.dispatcher == "lan_chart"
    assert len(server.visits) == 1
    hosts.agree(on=lambda contents: contents["addresses"] == [address])
    assert (alpha.read()["time_out_in_minutes"], beta.cache.read().origin.split("-")[0]) == (7, "alpha")


def test_node_looks_for_hosts_of_settings_and_file(
    hosts: Fleet, stopping: Stopping, prober: Prober, peer: tuple[str, FakeServer], tmp_path: Path
) -> None:
    file = tmp_path / "hosts.json"
    dead = f"127.0.0.1:{free_port()}"
    file.write_text(json.dumps({"hosts": [peer[0]]}))
    alpha = host(hosts, "alpha", discover=[dead], hosts_file=str(file))
    found = stopping(LanChart(alpha.node, MESH, prober=prober)).peers(AMPLE_S)
    assert found is not None and found.hosts == [peer[0]]


def test_new_host_in_the_file_joins_the_document(
    hosts: Fleet, stopping: Stopping, prober: Prober, peer: tuple[str, FakeServer], tmp_path: Path
) -> None:
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"hosts": [peer[0]]}))
    alpha, beta = host(hosts, "alpha", hosts_file=str(file)), hosts.add("beta")
    lan = stopping(LanChart(alpha.node, MESH, prober=prober))
    hosts.agree(on=lambda contents: contents.get("addresses") == [peer[0]])
    with FakeServer(generous_rabbit) as server:
        new = f"127.0.0.1:{server.port}"
        file.write_text(json.dumps({"hosts": [new]}))
        lan.post_fifo(event(EVALUATE_HOSTS_FILE))
        hosts.agree(on=lambda contents: contents["addresses"] == [peer[0], new])
    assert beta.read()[f"peer:{new}"]["by"] == "alpha"
    assert len(peer[1].visits) == 1


def test_malformed_hosts_file_is_reported_and_changes_nothing(
    hosts: Fleet,
    stopping: Stopping,
    prober: Prober,
    recorder: Callable[..., Recorder],
    peer: tuple[str, FakeServer],
    tmp_path: Path,
) -> None:
    errors = recorder(CACHE_ERROR)
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"hosts": [peer[0]]}))
    lan = stopping(LanChart(host(hosts, "alpha", hosts_file=str(file)).node, MESH, prober=prober))
    assert lan.peers(AMPLE_S).hosts == [peer[0]]
    file.write_text("{")
    lan.post_fifo(event(EVALUATE_HOSTS_FILE))
    errors.wait_for(lambda events: any("hosts.json" in e.payload.message for e in events))
    assert errors.payloads[-1].reason == "malformed"


def test_man_net_chart_needs_only_the_node(
    hosts: Fleet, stopping: Stopping, prober: Prober, peer: tuple[str, FakeServer], tmp_path: Path
) -> None:
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"hosts": [peer[0]]}))
    chart = stopping(ManNetChart(host(hosts, "alpha", hosts_file=str(file)).node, MESH, prober=prober))
    assert chart.hosts_file_path == file
    found = chart.peers(AMPLE_S)
    assert (found.hosts, found.dispatcher) == ([peer[0]], "man_net_chart")


@pytest.mark.parametrize("kind", [LanChart, ManNetChart])
def test_late_subscriber_is_told_without_another_look(
    stopping: Stopping,
    prober: Prober,
    recorder: Callable[..., Recorder],
    peer: tuple[str, FakeServer],
    tmp_path: Path,
    kind: type[LanChart] | type[ManNetChart],
) -> None:
    address, server = peer
    (tmp_path / "hosts.json").write_text(json.dumps({"hosts": [address]}))
    settings = Settings(hosts_file=str(tmp_path / "hosts.json"), scout_timeout_s=20)
    file = {"cache_file_path": tmp_path / "lan.json"} if kind is LanChart else {}
    chart = stopping(kind("cache.#", MESH, settings=settings, prober=prober, **file))
    assert chart.peers(AMPLE_S).hosts == [address]
    wait_until(lambda: chart.state.fun.__name__ in ("read_or_discover_network_details", "manual_network"))
    late = recorder(CONNECTION_DISCOVERY)
    late.publish(event(CONNECTION_READ))
    late.wait_for(1)
    assert (late.payloads[-1].hosts, len(server.visits)) == ([address], 1)


def test_peers_returns_when_there_is_nothing_to_tell(
    stopping: Stopping, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    def never() -> list[str]:
        raise OSError("planted")

    chart = stopping(LanChart(candidates=never, settings=Settings(), cache_file_path=tmp_path / "lan.json"))
    assert chart.peers(0.01) is None
    asks = recorder(CONNECTION_DISCOVERY)
    asks.publish(event(CONNECTION_READ))
    wait_until(lambda: "CONNECTION_READ" in str(chart.spy()))
    assert asks.payloads == []
