"""A peer that a program could not reach: gone from every host's document if it is really gone, and back when it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.peer_check import PeerChecks
from miros_cache_net.discovery.probe.prober import ProbeHandle, Prober, ProbeResult, ProbeTarget, Verdict
from miros_cache_net.events import CACHE_FILE_READ, CONNECTION_DISCOVERY, event
from miros_cache_net.limits import SUSPECTS
from miros_cache_net.settings import Settings
from miros_cache_net.testing import Fleet, Host, free_port, wait_until
from tests.charts.recorder import Recorder
from tests.fake_servers import FakeServer, generous_rabbit


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
    return list(host.read().get("addresses", ()))


def test_a_peer_that_is_gone_leaves_every_hosts_document_and_returns_when_it_is_back(
    hosts: Fleet, lan_on: Callable[[Host], LanChart], recorder: Callable[..., Recorder]
) -> None:
    found = recorder(CONNECTION_DISCOVERY)
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    port = free_port()
    gone = f"127.0.0.1:{port}"
    with FakeServer(generous_rabbit) as server:
        good = f"127.0.0.1:{server.port}"
        discovered_s = alpha.write(document(good, gone)).last_modified
        hosts.agree(on=lambda contents: gone in contents.get("addresses", ()))
        lan = lan_on(beta)
        lan.report_failure(gone)
        hosts.agree(on=lambda contents: contents["addresses"] == [good])
        assert f"peer:{gone}" not in alpha.read()
        assert alpha.read()["amqp_urls"] == [f"amqp://guest@{good}/%2F"]
        found.wait_for(lambda events: events[-1].payload.hosts == [good])
        with FakeServer(generous_rabbit, port=port):
            hosts.agree(on=lambda contents: contents["addresses"] == [good, gone], timeout_s=30)
        assert alpha.read()[f"peer:{gone}"]["by"] == "scout"
        found.wait_for(lambda events: events[-1].payload.hosts == [good, gone])
    assert alpha.cache.read().last_modified == discovered_s, "a repaired document is not a younger one"


def test_a_peer_that_answers_stays_and_the_document_does_not_become_younger(
    hosts: Fleet, lan_on: Callable[[Host], LanChart]
) -> None:
    alpha = hosts.add("alpha")
    with FakeServer(generous_rabbit) as server:
        good = f"127.0.0.1:{server.port}"
        version = alpha.write(document(good)).version
        lan = lan_on(alpha)
        lan.report_failure(good)
        wait_until(lambda: "peer_answered:read_or_discover_network_details:HOOK" in lan.spy(), what="the verdict")
        # behind whatever the verdict has asked of the file
        lan.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        wait_until(lambda: str(lan.spy()).count("CACHE:read_or_discover_network_details:HOOK") >= 2)
        assert len(server.visits) == 1
    assert peers_of(alpha) == [good]
    assert alpha.cache.read().version == version


def test_a_program_without_a_fleet_is_told_of_what_its_report_has_changed(
    stopping: Callable[[Any], Any], recorder: Callable[..., Recorder], prober: Prober, tmp_path: Path
) -> None:
    found = recorder(CONNECTION_DISCOVERY)
    gone = f"127.0.0.1:{free_port()}"
    with Cache(tmp_path / "lan.json") as cache:
        cache.write(document("127.0.0.9", gone))
        settings = Settings(scout_timeout_s=20)
        lan = stopping(LanChart("cache.#", "mesh", cache_file_path=cache.path, settings=settings, prober=prober))
        found.wait_for(1)
        lan.report_failure(gone)
        found.wait_for(lambda events: events[-1].payload.hosts == ["127.0.0.9"])


def test_an_address_that_is_no_peer_is_not_dialled(hosts: Fleet, lan_on: Callable[[Host], LanChart]) -> None:
    alpha = hosts.add("alpha")
    with FakeServer(generous_rabbit) as good, FakeServer(generous_rabbit) as stranger:
        alpha.write(document(f"127.0.0.1:{good.port}"))
        lan = lan_on(alpha)
        for address in (f"127.0.0.1:{stranger.port}", "", "no address at all", "[::"):
            lan.report_failure(address)
        lan.report_failure(f"127.0.0.1:{good.port}")
        wait_until(lambda: good.visits, what="the scout")
        assert not stranger.visits


# --- how often --------------------------------------------------------------------------------------


class Scouts(Prober):
    """Counts who is to be scouted, and dials nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def probe(self, target: ProbeTarget, done: Callable[[ProbeResult], object]) -> ProbeHandle:
        self.asked.append(target.address.host)
        return None  # type: ignore[return-value]


def checks_with(scouts: Prober) -> PeerChecks:
    return PeerChecks("mesh", Settings(), scouts, lambda _address, _result: None, random.Random(1))


def answer(verdict: Verdict) -> ProbeResult:
    return ProbeResult("127.0.0.9", 5672, verdict, "", round_trip_s=0.1)


def test_a_peer_that_is_gone_is_looked_for_ever_more_rarely_until_it_is_back() -> None:
    checks = checks_with(Scouts())
    known, without = document("127.0.0.9"), document()

    def waits(count: int) -> list[float]:
        again = [checks.verdict("127.0.0.9", answer(Verdict.REFUSED), without, 7.0)[1] for _ in range(count)]
        return [seconds for seconds in again if seconds is not None]

    change, again_s = checks.verdict("127.0.0.9", answer(Verdict.REFUSED), known, 7.0)
    assert change is not None and again_s is not None and again_s <= 2.0
    later = waits(30)
    assert len(later) == 30 and 4 <= later[1] <= 8 and 150 <= later[-1] <= 300
    change, again_s = checks.verdict("127.0.0.9", answer(Verdict.OK), without, 7.0)
    assert change is not None and change.changes["addresses"] == ["127.0.0.9"] and again_s is None
    assert waits(1)[0] <= 2.0, "back and gone again is a new beginning"


def test_one_is_scouted_once_at_a_time_and_no_more_than_a_bounded_number_at_once() -> None:
    scouts = Scouts()
    checks = checks_with(scouts)
    many = [f"10.0.{number // 250}.{number % 250}" for number in range(SUSPECTS + 1)]
    known = {"addresses": many}
    assert checks.look_at(many[0], known) and not checks.look_at(many[0], known)
    assert [checks.look_at(peer, known) for peer in many[1:]] == [True] * (SUSPECTS - 1) + [False]
    assert len(scouts.asked) == SUSPECTS
    checks.verdict(many[0], answer(Verdict.OK), known, 7.0)
    assert checks.look_at(many[-1], known)
