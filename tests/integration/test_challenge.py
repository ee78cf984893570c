"""Is a node of this fleet there?  Asked through real RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.discovery.challenge import Challenger
from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, Verdict
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.discovery.scout import ProducerScoutChart
from miros_cache_net.events import AMQP_CONSUMER_CHECK, CONNECTION_DISCOVERY
from miros_cache_net.fleet.place import place_of
from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings
from miros_cache_net.testing import Fleet, RabbitServer
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import generate_key, open_ring
from miros_cache_net.wire.kinds import CHALLENGE_ANSWER, STATUS
from tests.charts.recorder import Recorder


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


def asked(prober: Prober, settings: Settings, peer: str, challenger: Challenger | None = None) -> ProbeResult:
    answer: Future[ProbeResult] = Future()
    question = (challenger or Challenger(settings, settings.exchange)).question(peer)
    prober.probe(target_for(settings, peer, settings.exchange, challenge=question), answer.set_result)
    return answer.result(30)


def test_node_answers_and_broker_without_one_does_not(
    hosts: Fleet, prober: Prober, rabbit_server: RabbitServer
) -> None:
    peer = f"127.0.0.1:{rabbit_server.port}"
    alpha = hosts.add("alpha")
    settings = hosts.settings("scout", file=str(alpha.node.file_chart.path), scout_timeout_s=20)
    assert asked(prober, settings, peer).verdict is Verdict.OK
    alpha.stop()
    assert asked(prober, settings, peer).verdict is Verdict.NOBODY_ANSWERED


def test_node_with_another_key_differs_from_none(hosts: Fleet, prober: Prober, rabbit_server: RabbitServer) -> None:
    alpha = hosts.add("alpha")
    settings = hosts.settings(
        "scout", file=str(alpha.node.file_chart.path), keys=generate_key().decode(), scout_timeout_s=1
    )
    assert asked(prober, settings, f"127.0.0.1:{rabbit_server.port}").verdict is Verdict.WRONG_KEY
    assert alpha.status()["counters"]["refused_not_authentic"] == 1


def test_peers_are_asked_for_the_charts_own_document(
    hosts: Fleet, prober: Prober, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    settings, peer = hosts.settings("alpha", scout_timeout_s=20), f"127.0.0.1:{rabbit_server.port}"
    with ExitStack() as stack:
        found = Recorder(CONNECTION_DISCOVERY)
        stack.callback(found.stop)
        node = CacheNode(tmp_path / "peers.json", settings)
        stack.callback(node.stop)
        fleet: dict[str, Any] = {"cache_file_chart": node.file_chart, "ask_turn": node.ask_turn, "fleet_wait_s": 5.0}
        lan = LanChart(
            "cache.#", settings.exchange, settings=settings, candidates=lambda: [peer], prober=prober, **fleet
        )
        stack.callback(lan.stop)
        found.wait_for(lambda events: any(each.payload.hosts == [peer] for each in events))


def test_an_answer_counts_for_its_own_question_only(hosts: Fleet) -> None:
    settings = hosts.settings("scout")
    challenger = Challenger(settings, settings.exchange)
    one, other = challenger.question("10.0.0.1"), challenger.question("10.0.0.2")
    assert one is not None and other is not None
    place = place_of(settings, settings.file)
    gate = Gate(open_ring(settings), scope=place.scope, document=place.document, node="alpha", host="alpha")
    question = gate.open(one.body).body
    answer = gate.seal(CHALLENGE_ANSWER, question).body
    assert one.judge(answer)
    assert not other.judge(answer)
    for junk in (b"", b"junk", one.body, gate.seal(STATUS, question).body):
        assert not one.judge(junk)


def test_no_key_or_another_exchange_means_no_question(tmp_path: Path) -> None:
    without = Settings(keys_file=str(tmp_path / "none"), file=str(tmp_path / "c.json"))
    assert Challenger(without, without.exchange).question("10.0.0.1") is None
    with_key = Settings(keys=generate_key().decode(), file=str(tmp_path / "c.json"))
    assert Challenger(with_key, "mesh").question("10.0.0.1") is None


def test_the_scout_chart_asks_too(hosts: Fleet, prober: Prober, rabbit_server: RabbitServer) -> None:
    alpha = hosts.add("alpha")
    settings = hosts.settings("scout", file=str(alpha.node.file_chart.path), scout_timeout_s=20)
    heard = Recorder(AMQP_CONSUMER_CHECK)
    charts: list[Any] = [heard]
    make = partial(
        ProducerScoutChart,
        "127.0.0.1",
        "cache.#",
        settings.exchange,
        settings=settings,
        prober=prober,
        port=rabbit_server.port,
    )
    try:
        charts.append(make())
        heard.wait_for(1)
        alpha.stop()
        charts.append(make())
        heard.wait_for(2)
    finally:
        for chart in charts:
            chart.stop()
    assert [payload.reason for payload in heard.payloads] == ["ok", "nobody_answered"]
