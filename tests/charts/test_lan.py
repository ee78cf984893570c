"""`LanChart`: one discovery, then the cache; passwords only where they may go."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.probe.prober import Prober
from miros_cache_net.events import (
    CACHE_ERROR,
    CACHE_FILE_READ,
    CONNECTION_DISCOVERY,
    LAN_RECCE_COMPLETE,
    RECCE_LAN,
    event,
)
from miros_cache_net.limits import LAN_PEERS
from miros_cache_net.payloads import AMQPConsumerCheckPayload, ConnectionDiscoveryPayload, RecceCompletePayload
from miros_cache_net.settings import Settings
from miros_cache_net.store.changes import write_of
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.lock import Outcome
from miros_cache_net.testing import ManualClock, free_port, wait_until
from tests.charts.recorder import Recorder
from tests.fake_servers import FakeServer, Visit, generous_rabbit

PASSWORD = "s3cr3t-that-nobody-may-see"
AMPLE_S = 30.0
Build = Callable[..., LanChart]


class Candidates:
    """What is there to be scouted; counts how often somebody asks."""

    def __init__(self, *peers: str) -> None:
        self.peers = list(peers)
        self.asked = 0

    def __call__(self) -> list[str]:
        self.asked += 1
        return self.peers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lan.json"


@pytest.fixture
def lan(stopping: Callable[[Any], Any], path: Path) -> Iterator[Build]:
    """Builds a LAN chart on the fixture's file, with a prober of its own."""
    prober = Prober()

    def build(candidates: Callable[[], Any], *, networks: str = "127.0.0.0/8", **more: Any) -> LanChart:
        settings = Settings(
            amqp_urls=f"amqp://u:{PASSWORD}@broker.example",
            trusted_networks=networks,
            scout_timeout_s=AMPLE_S,
            node_name="alpha",
        )
        file = {} if "cache_file_chart" in more else {"cache_file_path": path}
        chart: LanChart = stopping(
            LanChart("heya.man", "mesh", candidates=candidates, settings=settings, prober=prober, **file, **more)
        )
        return chart

    yield build
    prober.close()


@pytest.fixture
def found(recorder: Callable[..., Recorder]) -> Recorder:
    return recorder(CONNECTION_DISCOVERY)


def wait_for_file(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    with Cache(path) as cache:
        return dict(cache.wait(lambda payload: wanted(dict(payload.dict)), timeout_s=AMPLE_S).dict)


# --- discovery and reuse ------------------------------------------------------------------------------


def test_a_cold_start_discovers_publishes_and_caches(lan: Build, found: Recorder, path: Path) -> None:
    with FakeServer(generous_rabbit) as server:
        good, dead = f"127.0.0.1:{server.port}", f"127.0.0.1:{free_port()}"
        lan(Candidates(dead, good), time_out_in_minutes=12)
        found.wait_for(1)
    url = f"amqp://u:{PASSWORD}@127.0.0.1:{server.port}/%2F"
    assert found.payloads == [ConnectionDiscoveryPayload([good], [url], "lan_chart")]
    document = wait_for_file(path, lambda document: document["addresses"] == [good])
    assert document["amqp_urls"] == [f"amqp://u@127.0.0.1:{server.port}/%2F"]
    assert document["time_out_in_minutes"] == 12
    assert set(document) == {"addresses", "amqp_urls", "time_out_in_minutes", f"peer:{good}"}
    entry = document[f"peer:{good}"]
    assert entry["by"] == "alpha" and entry["round_trip_s"] >= 0 and entry["seen_at"] > 1_700_000_000


def test_warm_start_reuses_cache_and_dials_nobody(lan: Build, found: Recorder, path: Path) -> None:
    with FakeServer(generous_rabbit) as server:
        candidates = Candidates(f"127.0.0.1:{server.port}")
        first = lan(candidates)
        found.wait_for(1)
        wait_for_file(path, lambda document: document["addresses"] == candidates.peers)
        first.stop()
        lan(candidates)
        found.wait_for(2)
        assert (candidates.asked, len(server.visits)) == (1, 1)
    assert found.payloads[0] == found.payloads[1]


# --- a warm start -------------------------------------------------------------------------------------


@pytest.fixture
def in_use(path: Path) -> Iterator[Callable[[Any], FileStore]]:
    """Writes the text or the document, and has the file alone until the test is over or calls `leave`."""
    stores: list[FileStore] = []

    def use(contents: Any) -> FileStore:
        if isinstance(contents, str):
            path.write_text(contents)
            os.utime(path, (time.time() - 60,) * 2)
        elif contents is not None:
            with Cache(path) as cache:
                cache.write(contents)
        store = FileStore(path)
        stores.append(store)
        assert store.access.try_enter() is Outcome.ENTERED
        store.access.mark()
        return store

    yield use
    for store in stores:
        store.close()


YOUNG = {"addresses": ["127.0.0.9"], "time_out_in_minutes": 30}


def test_young_file_in_use_elsewhere_is_told_once(
    lan: Build, found: Recorder, in_use: Callable[[Any], FileStore]
) -> None:
    store = in_use(YOUNG)
    candidates = Candidates()
    chart = lan(candidates)
    found.wait_for(1)
    assert found.payloads[0].hosts == ["127.0.0.9"]
    assert "CACHE:read_or_discover_network_details:HOOK" not in chart.spy()
    store.leave()
    wait_until(lambda: "CONNECTION_DISCOVERY was published at once" in chart.spy())
    # asked again it answers again, and that is all there is to hear
    chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
    found.wait_for(2)
    assert [payload.hosts for payload in found.payloads] == [["127.0.0.9"]] * 2
    assert candidates.asked == 0


def test_late_subscriber_is_told_by_the_first_answer(
    lan: Build, found: Recorder, recorder: Callable[..., Recorder], in_use: Callable[[Any], FileStore]
) -> None:
    store = in_use(YOUNG)
    lan(Candidates())
    found.wait_for(1)
    late = recorder(CONNECTION_DISCOVERY)
    store.leave()
    late.wait_for(1)
    assert late.payloads[0].hosts == ["127.0.0.9"]


def test_write_while_young_file_is_told_follows(
    lan: Build, found: Recorder, in_use: Callable[[Any], FileStore]
) -> None:
    store = in_use(YOUNG)
    lan(Candidates())
    found.wait_for(1)
    store.apply([write_of({**YOUNG, "addresses": ["127.0.0.8"]})], lambda _change, _error: None)
    store.leave()
    found.wait_for(2)
    assert [payload.hosts for payload in found.payloads] == [["127.0.0.9"], ["127.0.0.8"]]


def test_chart_told_at_once_refreshes_ahead_of_expiry(
    lan: Build, found: Recorder, in_use: Callable[[Any], FileStore]
) -> None:
    store = in_use({**YOUNG, "time_out_in_minutes": 0.05})
    candidates = Candidates("127.0.0.1:1")
    lan(candidates, time_out_in_minutes=30)
    found.wait_for(1)
    assert candidates.asked == 0
    store.leave()
    found.wait_for(2)
    assert (found.payloads[1].hosts, candidates.asked) == ([], 1)


@pytest.mark.parametrize(
    "contents",
    [None, {**YOUNG, "time_out_in_minutes": 0}, {"something": "else"}, json.dumps(YOUNG), "{", ""],
    ids=["absent", "expired", "of another kind", "of a stranger", "corrupt", "empty"],
)
def test_only_young_lan_documents_are_told_at_once(
    lan: Build, found: Recorder, recorder: Callable[..., Recorder], in_use: Callable[[Any], FileStore], contents: Any
) -> None:
    store = in_use(contents)
    lan(Candidates())
    # publications keep their order: nothing was published before this
    found.publish(event(CONNECTION_DISCOVERY, "mark"))
    found.wait_for(1)
    assert found.payloads == ["mark"]
    store.leave()
    found.wait_for(2)


# --- other documents -----------------------------------------------------------------------------------


def test_older_programs_file_is_reused_without_its_passwords(lan: Build, found: Recorder, path: Path) -> None:
    old = {"addresses": ["127.0.0.9"], "amqp_urls": ["amqp://bob:dobbs@127.0.0.9:5672/%2F"], "time_out_in_minutes": 30}
    path.write_text(json.dumps(old))
    candidates = Candidates()
    lan(candidates)
    found.wait_for(1)
    assert found.payloads[0].hosts == ["127.0.0.9"]
    assert found.payloads[0].amqp_urls == [f"amqp://u:{PASSWORD}@127.0.0.9:5672/%2F"]
    assert candidates.asked == 0


def test_an_expired_document_is_discovered_again(lan: Build, found: Recorder, path: Path) -> None:
    clock = ManualClock()
    with FakeServer(generous_rabbit) as server:
        candidates = Candidates(f"127.0.0.1:{server.port}")
        chart = lan(candidates, clock=clock, time_out_in_minutes=30)
        found.wait_for(1)
        wait_for_file(path, lambda document: document["time_out_in_minutes"] == 30)
        clock.advance(20 * 60)
        chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        found.wait_for(2)
        assert candidates.asked == 1
        clock.advance(11 * 60)
        chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        found.wait_for(4)  # what is stale is told meanwhile
        assert candidates.asked == 2


def test_empty_discovery_is_not_believed_for_long(lan: Build, found: Recorder, path: Path) -> None:
    clock = ManualClock()
    candidates = Candidates()
    chart = lan(candidates, clock=clock, time_out_in_minutes=30)
    found.wait_for(1)
    wait_for_file(path, lambda document: document["time_out_in_minutes"] == 1)
    with FakeServer(generous_rabbit) as server:
        candidates.peers = [f"127.0.0.1:{server.port}"]
        clock.advance(60)
        chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        found.wait_for(lambda events: any(e.payload.hosts == candidates.peers for e in events))
    wait_for_file(path, lambda document: document["time_out_in_minutes"] == 30)


@pytest.mark.parametrize(
    "document",
    [
        {"something": "else"},
        {"addresses": "127.0.0.1"},
        {"addresses": [7]},
        {"addresses": ["http://x/"]},
        {"addresses": ["127.0.0.1"] * (LAN_PEERS + 1)},
    ],
)
def test_a_document_of_another_kind_counts_as_none(
    lan: Build, found: Recorder, path: Path, document: dict[str, Any]
) -> None:
    path.write_text(json.dumps(document))
    candidates = Candidates()
    lan(candidates)
    found.wait_for(1)
    assert (found.payloads[0].hosts, candidates.asked) == ([], 1)


def test_discovery_keeps_the_keys_of_others(lan: Build, path: Path) -> None:
    with Cache(path) as cache:
        old = {"addresses": ["127.0.0.9"], "peer:127.0.0.9": {}, "amqp_urls": [], "time_out_in_minutes": 0}
        cache.write({**old, "note": "hello", "gone": 1, "suspect:127.0.0.9": True})
        cache.update({}, delete=["gone"])
        lan(Candidates(), time_out_in_minutes=30)
        payload = cache.wait(lambda payload: not payload.expired, timeout_s=AMPLE_S)
        assert payload is not None
        assert sorted(payload.dict) == ["addresses", "amqp_urls", "note", "time_out_in_minutes"]
        assert (payload.dict["note"], payload.dict["time_out_in_minutes"]) == ("hello", 1)


def test_whole_write_of_other_keys_gets_peers_added(lan: Build, path: Path) -> None:
    with FakeServer(generous_rabbit) as server, Cache(path) as cache:
        cache.write({"note": "hello"})
        peer = f"127.0.0.1:{server.port}"
        lan(Candidates(peer))
        document = wait_for_file(path, lambda document: "addresses" in document)
        assert (document["note"], document["addresses"]) == ("hello", [peer])


def test_other_keys_written_during_a_discovery_stay(lan: Build, path: Path) -> None:
    here, go_on = threading.Event(), threading.Event()

    def candidates() -> list[str]:
        here.set()
        assert go_on.wait(AMPLE_S)
        return []

    with Cache(path) as cache:
        cache.write({"addresses": [], "time_out_in_minutes": 0, "note": "old", "gone": 1})
        lan(candidates)
        assert here.wait(AMPLE_S)
        cache.update({"note": "new", "more": 1}, delete=["gone"])
        go_on.set()
        payload = cache.wait(lambda payload: not payload.expired, timeout_s=AMPLE_S)
        assert payload is not None
        assert {key: payload.dict.get(key) for key in ("note", "more", "gone")} == {
            "note": "new",
            "more": 1,
            "gone": None,
        }


# --- passwords --------------------------------------------------------------------------------------


def test_password_is_in_no_file_and_no_text(lan: Build, found: Recorder, path: Path) -> None:
    with FakeServer(generous_rabbit) as server:
        chart = lan(Candidates(f"127.0.0.1:{server.port}"))
        found.wait_for(1)
        wait_for_file(path, lambda document: bool(document["addresses"]))
    texts = [file.read_text(errors="replace") for file in path.parent.iterdir() if file.is_file()]
    for text in (*texts, repr(found.payloads[0]), str(found.payloads[0]), str(chart.spy()), str(chart.trace())):
        assert PASSWORD not in text


def test_cached_untrusted_address_gets_no_password(lan: Build, found: Recorder, path: Path) -> None:
    path.write_text(json.dumps({"addresses": ["192.0.2.1", "127.0.0.1"], "time_out_in_minutes": 30}))
    lan(Candidates())
    found.wait_for(1)
    assert found.payloads[0].amqp_urls == [
        "amqp://u@192.0.2.1:5672/%2F",
        f"amqp://u:{PASSWORD}@127.0.0.1:5672/%2F",
    ]


# --- what can happen meanwhile ----------------------------------------------------------------------


def test_failed_recce_keeps_the_cache_and_is_retried(
    lan: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path
) -> None:
    errors = recorder(CACHE_ERROR)
    with Cache(path) as cache:
        cache.write({"addresses": ["127.0.0.9"], "time_out_in_minutes": 0})
        fail = True

        def candidates() -> list[str]:
            if fail:
                raise OSError("planted")
            return []

        chart = lan(candidates)
        errors.wait_for(1)
        assert "planted" in errors.payloads[0].message
        wait_until(lambda: chart.state.fun.__name__ == "read_or_discover_network_details")
        assert list(cache.read().dict["addresses"]) == ["127.0.0.9"]
        # stale, but better than nothing until a recce succeeds
        assert [told.payload.hosts for told in found.wait_for(1)] == [["127.0.0.9"]]
        fail = False
        chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        found.wait_for(lambda events: events[-1].payload.hosts == [])


class Draws(random.Random):
    """Keeps what was drawn between which bounds."""

    def __init__(self) -> None:
        super().__init__(1)
        self.bounds: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append((a, b))
        return super().uniform(a, b)


def test_refused_result_makes_no_loop_of_discoveries(
    lan: Build, found: Recorder, stopping: Callable[[Any], Any], path: Path
) -> None:
    with Cache(path) as cache:
        cache.write({"addresses": [], "time_out_in_minutes": 0.0001})
    draws, candidates = Draws(), Candidates()
    lan(candidates, cache_file_chart=stopping(CacheFileChart(path, read_only=True)), rng=draws)
    wait_until(lambda: (0.5, 1.0) in draws.bounds, timeout_s=AMPLE_S, what="the next try to be put off")
    assert candidates.asked == 1


def test_young_document_during_the_recce_ends_it(
    lan: Build, found: Recorder, recorder: Callable[..., Recorder], stopping: Callable[[Any], Any], path: Path
) -> None:
    completed = recorder(LAN_RECCE_COMPLETE)
    go_on = threading.Event()

    def talk(visit: Visit) -> None:
        assert go_on.wait(AMPLE_S)
        generous_rabbit(visit)

    cache_chart = stopping(CacheFileChart(path, default_json=lan_document.DEFAULT, watch=True))
    with FakeServer(talk) as server, Cache(path) as elsewhere:
        lan(Candidates(f"127.0.0.1:{server.port}"), cache_file_chart=cache_chart)
        wait_until(lambda: server.visits)
        elsewhere.write({"addresses": ["127.0.0.9"], "time_out_in_minutes": 30})
        found.wait_for(1)
        go_on.set()
        completed.wait_for(1)
        cache_chart.post_fifo(event(CACHE_FILE_READ))
        found.wait_for(2)
        assert list(elsewhere.read().dict["addresses"]) == ["127.0.0.9"]
    assert [payload.hosts for payload in found.payloads] == [["127.0.0.9"]] * 2


def test_recce_of_another_is_not_taken_for_own(lan: Build, found: Recorder, recorder: Callable[..., Recorder]) -> None:
    completed = recorder(LAN_RECCE_COMPLETE)
    here = threading.Event()
    go_on = threading.Event()

    def candidates() -> list[str]:
        here.set()
        assert go_on.wait(AMPLE_S)
        return []

    chart = lan(candidates)
    assert here.wait(AMPLE_S)
    chart.lan_recce_chart.post_fifo(event(RECCE_LAN, "another's"))
    completed.publish(event(LAN_RECCE_COMPLETE, "nonsense"))
    completed.publish(event(LAN_RECCE_COMPLETE, RecceCompletePayload([], "127.0.0.1", request="another's")))
    wait_until(lambda: str(chart.spy()).count("LAN_RECCE_COMPLETE:discover_network:HOOK") == 2)
    assert found.payloads == []
    go_on.set()
    completed.wait_for(4)
    found.wait_for(1)
    chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
    found.wait_for(2)
    assert len(found.payloads) == 2


def test_zero_time_out_does_not_discover_for_ever(
    lan: Build, found: Recorder, stopping: Callable[[Any], Any], path: Path
) -> None:
    clock = ManualClock()
    candidates = Candidates()
    cache_chart = stopping(CacheFileChart(path, default_json=lan_document.DEFAULT, watch=True, clock=clock))
    lan(candidates, time_out_in_minutes=0, cache_file_chart=cache_chart, clock=clock)
    found.wait_for(2)  # the discovery, and the echo of its write
    assert candidates.asked == 1
    clock.advance(60)
    cache_chart.post_fifo(event(CACHE_FILE_READ))
    found.wait_for(3)
    assert candidates.asked == 2


# --- a cache chart of somebody else -----------------------------------------------------------------


def test_existing_cache_chart_is_used_and_left_running(
    lan: Build, found: Recorder, stopping: Callable[[Any], Any], path: Path
) -> None:
    path.write_text(json.dumps({"addresses": ["127.0.0.9"], "time_out_in_minutes": 30}))
    cache_chart = stopping(CacheFileChart(path, system_read_signal_name="PEERS"))
    chart = lan(Candidates(), cache_file_chart=cache_chart)
    found.wait_for(1)
    chart.stop()
    assert cache_chart.running and not chart.lan_recce_chart.running


def test_the_answer_of_another_cache_file_changes_nothing(
    lan: Build, found: Recorder, recorder: Callable[..., Recorder], stopping: Callable[[Any], Any], tmp_path: Path
) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"addresses": ["127.0.0.8"], "time_out_in_minutes": 30}))
    other = stopping(CacheFileChart(tmp_path / "other.json"))
    answers = recorder("CACHE")
    chart = lan(Candidates())
    found.wait_for(1)
    other.post_fifo(event(CACHE_FILE_READ))
    answers.wait_for(lambda events: any(e.payload.file_name == "other.json" for e in events))
    chart.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
    found.wait_for(2)
    assert [payload.hosts for payload in found.payloads] == [[], []]


def test_expired_document_waits_for_young_one_of_fleet(
    lan: Build, found: Recorder, stopping: Callable[[Any], Any], path: Path
) -> None:
    cache_chart = stopping(CacheFileChart(path, default_json=lan_document.DEFAULT, watch=True))
    candidates = Candidates()
    chart = lan(candidates, cache_file_chart=cache_chart, fleet_wait_s=AMPLE_S)
    wait_until(lambda: chart.state.fun.__name__ == "ask_fleet")
    with Cache(path) as fleet:
        fleet.write({"addresses": ["127.0.0.9"], "time_out_in_minutes": 30})
    found.wait_for(1)
    assert (found.payloads[0].hosts, candidates.asked) == (["127.0.0.9"], 0)


def test_fleet_with_nothing_young_leaves_discovery_to_us(
    lan: Build, found: Recorder, stopping: Callable[[Any], Any], path: Path
) -> None:
    connected = False
    cache_chart = stopping(CacheFileChart(path, default_json=lan_document.DEFAULT, connected=lambda: connected))
    candidates = Candidates()
    chart = lan(candidates, cache_file_chart=cache_chart, fleet_wait_s=AMPLE_S)
    wait_until(lambda: chart.state.fun.__name__ == "ask_fleet")
    cache_chart.post_fifo(event(CACHE_FILE_READ))
    wait_until(lambda: "CACHE:ask_fleet:HOOK" in chart.spy())
    assert (candidates.asked, chart.state.fun.__name__) == (0, "ask_fleet")
    connected = True
    cache_chart.post_fifo(event(CACHE_FILE_READ))
    found.wait_for(1)
    assert candidates.asked == 1


def test_silent_fleet_is_not_waited_for_too_long(lan: Build, found: Recorder) -> None:
    candidates = Candidates()
    lan(candidates, fleet_wait_s=0.05)
    found.wait_for(1)
    assert candidates.asked == 1


# --- the document -----------------------------------------------------------------------------------


def test_rendered_document_reads_back_as_the_same_addresses() -> None:
    settings = Settings(node_name="beta", amqp_urls="amqps://u:pw@broker/v")
    checks = [AMQPConsumerCheckPayload(peer, True, "k", "e", round_trip_s=0.5) for peer in ("10.0.0.1", "[fd00::1]:7")]
    document = lan_document.render(checks, settings, seen_at=1.5, time_out_in_minutes=3)
    assert lan_document.addresses_in(document) == ["10.0.0.1", "[fd00::1]:7"]
    assert document["amqp_urls"] == ["amqps://u@10.0.0.1:5671/v", "amqps://u@[fd00::1]:7/v"]
    assert document["peer:10.0.0.1"] == {"seen_at": 1.5, "by": "beta", "round_trip_s": 0.5}
