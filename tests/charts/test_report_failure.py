"""A peer that a program could not reach: gone from every host's document if it is really gone, and back when it is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from miros.event import Event

from miros_cache_net.cache import Cache
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.peer_check import PeerChecks
from miros_cache_net.discovery.probe.prober import ProbeHandle, Prober, ProbeResult, ProbeTarget, Verdict
from miros_cache_net.errors import SettingsError, StoreError
from miros_cache_net.events import CACHE_FILE_READ, CONNECTION_DISCOVERY, EVALUATE_HOSTS_FILE, event
from miros_cache_net.limits import SUSPECTS
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.timers import Timer
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


def test_lost_peer_leaves_documents_until_it_returns(
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


def test_peer_that_answers_stays_in_unchanged_document(hosts: Fleet, lan_on: Callable[[Host], LanChart]) -> None:
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


def test_verdict_waits_for_a_file_that_cannot_be_read(
    hosts: Fleet, lan_on: Callable[[Host], LanChart], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = hosts.add("alpha")
    gone = f"127.0.0.1:{free_port()}"
    alpha.write(document("127.0.0.9", gone))
    lan = lan_on(alpha)
    read, reads = lan._file.contents, iter(("the report", "the verdict"))

    def contents() -> Mapping[str, Any]:
        if next(reads, "") == "the verdict":
            raise StoreError("planted")
        return read()

    monkeypatch.setattr(lan._file, "contents", contents)
    lan.report_failure(gone)
    wait_until(lambda: peers_of(alpha) == ["127.0.0.9"], what="the verdict")


def test_program_without_fleet_is_told_what_report_changed(
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


@pytest.mark.parametrize("is_there", [False, True])
def test_plain_program_reports_by_a_key(hosts: Fleet, lan_on: Callable[[Host], LanChart], is_there: bool) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    with FakeServer(generous_rabbit) as server, FakeServer(generous_rabbit) as stranger:
        peer = f"127.0.0.1:{server.port if is_there else free_port()}"
        alpha.write(document("127.0.0.9", peer))
        hosts.agree(on=lambda contents: peer in contents.get("addresses", ()))  # or beta discovers that nobody is there
        lan_on(beta)
        alpha.update({f"suspect:{peer}": True, f"suspect:127.0.0.1:{stranger.port}": True, "suspect:": 1})
        left = ["127.0.0.9", peer] if is_there else ["127.0.0.9"]
        hosts.agree(on=lambda contents: contents["addresses"] == left and f"suspect:{peer}" not in contents)
        assert (len(server.visits), len(stranger.visits)) == (1 if is_there else 0, 0)


def test_address_that_is_no_peer_is_not_dialled(hosts: Fleet, lan_on: Callable[[Host], LanChart]) -> None:
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


class Refusing(Prober):
    """Nobody is there."""

    def probe(self, target: ProbeTarget, done: Callable[[ProbeResult], object]) -> ProbeHandle:
        done(answer(Verdict.REFUSED))
        return None  # type: ignore[return-value]


class LookingLan(LanChart):
    """Counts, whenever it is to look for a peer again, the timers that wait for that."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.looks: list[Timer] = []
        self.waiting: list[int] = []
        super().__init__(*args, **options)

    def post_later(self, e: Event, delay_s: float, *, always: bool = False) -> Timer:
        timer = super().post_later(e, delay_s, always=always)
        if e.signal_name == "peer_failed":
            self.looks.append(timer)
            self.waiting.append(sum(look.live for look in self.looks))
        return timer


@pytest.mark.parametrize("reported", [True, False])
def test_repeated_reports_of_a_peer_share_one_timer(
    reported: bool, stopping: Callable[[Any], Any], tmp_path: Path
) -> None:
    gone = "127.0.0.9"
    hosts_file = tmp_path / "hosts.json"
    hosts_file.write_text(json.dumps({"hosts": [gone]}))
    with Cache(tmp_path / "lan.json") as cache:
        cache.write(document("127.0.0.8", gone))
        lan = stopping(
            LookingLan(
                "cache.#",
                "mesh",
                cache_file_path=cache.path,
                settings=Settings(hosts_file=str(hosts_file)),
                prober=Refusing(),
            )
        )
        lan.report_failure(gone)
        wait_until(lambda: cache.read().dict["addresses"] == ["127.0.0.8"], what="the verdict")
        for _ in range(10):
            before = len(lan.waiting)
            if reported:
                lan.report_failure(gone)
            else:
                lan.post_fifo(event(EVALUATE_HOSTS_FILE))
            wait_until(lambda before=before: len(lan.waiting) > before, what="the next look")
        assert max(lan.waiting) == 1


def checks_with(scouts: Prober) -> PeerChecks:
    return PeerChecks("mesh", Settings(), scouts, lambda _address, _result: None, random.Random(1))


def answer(verdict: Verdict) -> ProbeResult:
    return ProbeResult("127.0.0.9", 5672, verdict, "", round_trip_s=0.1)


def test_lost_peer_is_looked_for_less_and_less() -> None:
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


def test_scouts_are_bounded_and_one_per_peer() -> None:
    scouts = Scouts()
    checks = checks_with(scouts)
    many = [f"10.0.{number // 250}.{number % 250}" for number in range(SUSPECTS + 1)]
    known = {"addresses": many}
    assert checks.look_at(many[0], known) and not checks.look_at(many[0], known)
    assert [checks.look_at(peer, known) for peer in many[1:]] == [True] * (SUSPECTS - 1) + [False]
    assert len(scouts.asked) == SUSPECTS
    checks.verdict(many[0], answer(Verdict.OK), known, 7.0)
    assert checks.look_at(many[-1], known)


def test_who_could_not_be_scouted_can_be_again(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_text("no certificate")
    settings = Settings(amqp_urls="amqps://broker.example", tls_ca_file=authorities)
    checks = PeerChecks("mesh", settings, Scouts(), lambda _address, _result: None, random.Random(1))
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"ca\.pem"):
            checks.look_at("10.0.0.1", {"addresses": ["10.0.0.1"]})
