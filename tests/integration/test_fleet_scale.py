"""Two hundred hosts: joining costs each the same, whatever the size of the fleet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.amqp.link import Link
from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.fleet.links import rabbit_link
from miros_cache_net.fleet.place import Place, document_topology, place_of, request_queue_name
from miros_cache_net.settings import Settings
from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.integration.rabbit_links import channel_to, wait_for_servers
from tests.light_hosts import LightHost, LightHosts

CONTENTS = {"addresses": ["10.0.0.1"], "time_out_in_minutes": 30}


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(keys=generate_key().decode(), file=str(tmp_path / "cache.json"), scope="many", **more)


def have_it(hosts: list[LightHost]) -> bool:
    return all(host.in_sync and host.document.contents == CONTENTS for host in hosts)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def in_memory(broker: MemoryBroker, tmp_path: Path) -> Iterator[LightHosts]:
    def link(_settings: Settings, place: Place) -> Link:
        return MemoryLink(broker, document_topology(place))

    with LightHosts(settings(tmp_path), link) as hosts:
        yield hosts


def test_join_costs_two_messages_in_any_fleet(broker: MemoryBroker, in_memory: LightHosts) -> None:
    (first,) = in_memory.start(1)
    wait_until(lambda: first.in_sync, what="the first host")
    first.write(CONTENTS)
    costs = []
    for size in (3, 200):
        joining = in_memory.start(size - 1 - len(in_memory.hosts))
        wait_until(lambda joining=joining: have_it(joining), timeout_s=60, what=f"{size - 1} hosts to join")
        before = len(broker.messages)
        (newcomer,) = in_memory.start(1)
        wait_until(lambda newcomer=newcomer: have_it([newcomer]), what="the newcomer")
        costs.append(len(broker.messages) - before)
    assert costs == [2, 2]


def test_peer_that_dies_before_answering_is_replaced(rabbit_server: RabbitServer, tmp_path: Path) -> None:
    mortal = settings(tmp_path, amqp_urls=rabbit_server.url, answer_timeout_s=0.5)
    # these hosts say no digests: what the newcomer knows it has been answered
    with LightHosts(mortal, rabbit_link) as hosts, channel_to(rabbit_server.url) as dying:
        (first,) = hosts.start(1)
        wait_until(lambda: first.in_sync, what="the first host")
        first.write(CONTENTS)
        # RabbitMQ picks this one before any other, and it takes no second request
        dying.basic_qos(prefetch_count=1)
        picked: list[object] = []
        requests = request_queue_name(place_of(mortal, Path("cache.json")))
        dying.basic_consume(requests, lambda *got: picked.append(got), arguments={"x-priority": 10})
        (newcomer,) = hosts.start(1)
        wait_until(lambda: dying.connection.process_data_events(0.0) or picked, what="the request")
        wait_until(lambda: have_it([newcomer]), what="an answer to the next request")
        # on a busy machine it may have asked once more before the answer was there
        assert newcomer.registry.flat()["received_answer"] >= 1
        assert first.registry.flat()["received_CACHE_FILE_READ"] >= 1


def test_two_hundred_hosts_hear_one_change(rabbit_server: RabbitServer, tmp_path: Path) -> None:
    # 200 hosts that begin together in one process may take more than a second to answer each other
    patient = settings(tmp_path, amqp_urls=rabbit_server.url, answer_timeout_s=60)
    alone = patient.model_copy(update={"answer_timeout_s": 0.5})
    with LightHosts(alone, rabbit_link) as earlier, LightHosts(patient, rabbit_link) as hosts:
        (first,) = earlier.start(1)
        wait_until(lambda: first.in_sync, what="the first host")
        first.write({"a": 1})
        wait_for_servers(rabbit_server.url, place_of(patient, Path("cache.json")))
        hosts.start(199)
        wait_until(lambda: all(h.in_sync and h.document.contents for h in hosts.hosts), timeout_s=120, what="199 joins")
        received = [host.registry.flat() for host in hosts.hosts]
        assert all(counters.get("received_answer", 0) == 1 for counters in received)
        assert rabbit_server.connection_count() == 400
        hosts.hosts[77].write(CONTENTS)
        wait_until(lambda: have_it([first, *hosts.hosts]), timeout_s=60, what="the change")
