"""Nodes and somebody without the key who says again what he has heard once; and nodes without a request queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from miros_cache_net.amqp.link import Delivery, LinkUp, Publication
from miros_cache_net.amqp.memory import MemoryBroker, MemoryMessage
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.amqp.topology import OWN_QUEUE_PREFIX
from miros_cache_net.errors import BrokerError
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.fleet.links import LinkFactory
from miros_cache_net.fleet.place import document_topology, place_of, request_queue_name
from miros_cache_net.testing import Fleet, Host, wait_until
from miros_cache_net.wire.envelope import Message, decode
from miros_cache_net.wire.keyring import KeyRing

T = TypeVar("T")


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def hosts(tmp_path: Path, broker: MemoryBroker) -> Iterator[Fleet]:
    with Fleet(tmp_path, broker) as made:
        yield made


class Replayer:
    """A user of the broker without the key: hears all, and says it again into everybody's queues."""

    def __init__(self, hosts: Fleet, broker: MemoryBroker) -> None:
        self._ring, self._broker = KeyRing.from_keys([hosts.key]), broker
        settings = hosts.settings("mallory")
        self.link = MemoryLink(broker, document_topology(place_of(settings, settings.file)), connection_name="mallory")
        self.link.start(self)

    def link_up(self, up: LinkUp) -> None: ...

    def link_down(self, error: BrokerError) -> None: ...

    def delivered(self, delivery: Delivery) -> None: ...

    def all(self, kind: str) -> list[tuple[MemoryMessage, Message]]:
        opened = ((each, decode(self._ring.decrypt(each.body))) for each in self._broker.messages)
        return [(each, message) for each, message in opened if message.kind == kind]

    def repeat(self, captured: MemoryMessage) -> None:
        queues = {each.reply_to for each in self._broker.messages if each.reply_to.startswith(OWN_QUEUE_PREFIX)}
        for queue in queues:
            for _ in range(12):
                self.link.publish(Publication(captured.body, queue=queue))

    def while_asked(self, request: str, captured: MemoryMessage, ask: Callable[[], T]) -> T:
        """What `ask` gives if the replay comes as soon as its request is out."""
        before, given = len(self.all(request)), list[T]()
        asking = threading.Thread(target=lambda: given.append(ask()))
        asking.start()
        wait_until(lambda: len(self.all(request)) > before, what="the request")
        self.repeat(captured)
        asking.join()
        return given[0]


@pytest.fixture
def mallory(hosts: Fleet, broker: MemoryBroker) -> Iterator[Replayer]:
    made = Replayer(hosts, broker)
    yield made
    made.link.stop()


@pytest.fixture
def left(hosts: Fleet, mallory: Replayer) -> Host:
    """The last of two hosts; all that the other has ever said is known."""
    alpha, beta = hosts.add("alpha"), hosts.add("beta", wait=False)
    alpha.write({"n": 1})
    hosts.agree(alpha, beta, on=lambda contents: contents == {"n": 1})
    assert beta.node.read_fleet() is not None
    assert len(beta.node.fleet_status()) == 2
    alpha.stop()
    beta.write({"n": 2})
    return beta


def test_an_answer_of_last_week_answers_no_read(left: Host, mallory: Replayer) -> None:
    captured = mallory.all("answer")[-1][0]
    assert mallory.while_asked("CACHE_FILE_READ", captured, lambda: left.node.read_fleet(1.0)) is None
    assert left.read() == {"n": 2}
    assert left.node.status()["counters"]["received_answer"] >= 12


def test_a_status_of_last_week_shows_no_ghost(left: Host, mallory: Replayer) -> None:
    captured = mallory.all("status")[-1][0]
    statuses = mallory.while_asked("status_request", captured, lambda: left.node.fleet_status(1.0))
    assert [status["node"] for status in statuses] == [left.node.status()["node"]]


def to(broker: MemoryBroker) -> LinkFactory:
    return lambda _settings, place: MemoryLink(broker, document_topology(place))


def test_client_takes_no_answer_of_last_week(hosts: Fleet, broker: MemoryBroker, left: Host, mallory: Replayer) -> None:
    captured = {kind: mallory.all(kind)[-1][0] for kind in ("answer", "status")}
    left.stop()
    mallory.link.serve_requests(True)
    with FleetClient(hosts.settings("beta"), link_factory=to(broker)) as client:
        assert client.up is not None and client.up.request_servers == 1
        assert mallory.while_asked("CACHE_FILE_READ", captured["answer"], lambda: client.fleet.document(1.0)) is None
        assert mallory.while_asked("status_request", captured["status"], lambda: client.fleet.statuses(1.0)) == []


def test_answer_of_last_week_completes_no_join(hosts: Fleet, left: Host, mallory: Replayer) -> None:
    captured = mallory.all("answer")[-1][0]
    left.stop()
    mallory.link.serve_requests(True)
    before = len(mallory.all("CACHE_FILE_READ"))
    gamma = hosts.add("gamma", wait=False, answer_timeout_s=60)
    wait_until(lambda: len(mallory.all("CACHE_FILE_READ")) > before, what="gamma to ask")
    mallory.repeat(captured)
    wait_until(lambda: gamma.read() == {"n": 1}, what="the replay to be taken in")
    assert not gamma.node.connected


# --- no request queue -----------------------------------------------------------------------------


@pytest.fixture
def cut_off(hosts: Fleet, broker: MemoryBroker) -> Fleet:
    """Hosts that cannot have the request queue."""
    settings = hosts.settings("any")
    broker.withhold_queue(request_queue_name(place_of(settings, settings.file)))
    return hosts


def test_hosts_join_and_are_read_without_request_queue(cut_off: Fleet, broker: MemoryBroker) -> None:
    alpha = cut_off.add("alpha")
    alpha.write({"a": 1})
    # long enough that it could not be taken for alone
    beta = cut_off.add("beta", answer_timeout_s=5)
    cut_off.agree(alpha, beta, on=lambda contents: contents == {"a": 1})
    document = beta.node.read_fleet()
    assert document is not None and document.contents == {"a": 1}
    with FleetClient(cut_off.settings("beta"), link_factory=to(broker)) as client:
        document = client.fleet.document()
    assert document is not None and document.contents == {"a": 1}


def test_vanished_request_queue_delays_no_reader(hosts: Fleet, broker: MemoryBroker) -> None:
    alpha = hosts.add("alpha")
    alpha.write({"a": 1})
    beta = hosts.add("beta", answer_timeout_s=30)
    hosts.agree(alpha, beta, on=lambda contents: contents == {"a": 1})
    settings = hosts.settings("any")
    broker.withhold_queue(request_queue_name(place_of(settings, settings.file)))
    document = beta.node.read_fleet(timeout_s=20)
    assert document is not None and document.contents == {"a": 1}


def test_returning_host_without_request_queue_gets_no_document(cut_off: Fleet, broker: MemoryBroker) -> None:
    alpha = cut_off.add("alpha")
    alpha.write({"long": "x" * 100_000})
    beta = cut_off.add("beta")
    cut_off.agree(alpha, beta, on=bool)
    beta.stop()
    before = len(broker.messages)
    cut_off.add("beta", answer_timeout_s=5)
    assert sum(len(message.body) for message in broker.messages[before:]) < 10_000


# --- caps -----------------------------------------------------------------------------------------


def apart(*hosts: Host) -> bool:
    statuses = [host.node.status() for host in hosts]
    return all("exceed a cap together" in status["trouble"] and not status["connected"] for status in statuses)


def test_halves_beyond_cap_trouble_hosts_until_whole_write(
    hosts: Fleet, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miros_cache_net.limits.DOCUMENT_KEYS", 100)
    interval: dict[str, Any] = {"digest_interval_s": 1.0}
    alpha, beta = hosts.add("alpha", **interval), hosts.add("beta", **interval)
    alpha.write({})
    hosts.agree(
        alpha, beta, on=lambda contents: contents == {} and alpha.cache.read().version == beta.cache.read().version
    )
    broker.crash()
    for host, name in ((alpha, "a"), (beta, "b")):
        host.update({f"{name}{number}": "x" * 1000 for number in range(60)})
    broker.restart()
    wait_until(lambda: apart(alpha, beta), what="both to say so")
    follower = hosts.add("beta", wait=False)
    wait_until(lambda: "exceed a cap together" in follower.node.status()["trouble"], what="the follower to know")
    gamma = hosts.add("gamma", wait=False, **interval)
    wait_until(lambda: apart(alpha, beta, gamma), what="the third to say so")
    assert (len(alpha.read()), len(beta.read())) == (60, 60)
    before = len(broker.messages)
    wait_until(
        lambda: len(broker.messages) >= before + 5 and sum(len(each.body) for each in broker.messages[-5:]) < 10_000,
        what="digests only",
    )
    gamma.write({"mended": True})
    hosts.agree(alpha, beta, gamma, on=lambda contents: contents == {"mended": True})
    for host in (alpha, beta, gamma, follower):
        wait_until(lambda host=host: host.node.connected and not host.node.status()["trouble"], what="all to be well")
