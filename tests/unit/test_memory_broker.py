"""The in-memory broker keeps the promises of the real one, and the faults that it plays are those asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Publication
from miros_cache_net.amqp.memory import MemoryBroker, MemoryLink
from miros_cache_net.amqp.topology import Binding, Exchange, Queue, Topology
from miros_cache_net.errors import BrokerUnreachable, LoginRefused
from miros_cache_net.fleet.place import Place, document_topology, request_queue_name, routing_key
from miros_cache_net.testing import ManualClock
from tests.integration.link_contract import Confirms, LinkContract, Recorder, Rig, news
from tests.threads import NewThreads

PLACE = Place("miros.cache.exchange", "fleet", "cache")


class MemoryRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker()

    def make(self, topology: Topology) -> Link:
        return MemoryLink(self.broker, topology)

    def crash(self) -> None:
        self.broker.crash()

    def restart(self) -> None:
        self.broker.restart()

    def declare_exchange(self, name: str, exchange_type: str, durable: bool = False) -> None:
        self.broker.declare_exchange(name, exchange_type, durable)

    def delete_exchange(self, name: str) -> None:
        self.broker.delete_exchange(name)

    def delete_queue(self, name: str) -> None:
        self.broker.delete_queue(name)

    def withhold_requests(self, place: Place) -> None:
        self.broker.withhold_queue(request_queue_name(place))

    def grant_requests(self, place: Place) -> None:
        self.broker.grant_queue(request_queue_name(place))

    def queue_exists(self, name: str) -> bool:
        return self.broker.consumers(name) > 0

    def request_consumers(self, place: Place) -> int:
        return self.broker.consumers(request_queue_name(place))


class TestMemoryLink(LinkContract):
    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        rig = MemoryRig()
        yield rig
        rig.close()


def started(broker: MemoryBroker, *, serve: bool = False) -> tuple[MemoryLink, Recorder]:
    link, recorder = MemoryLink(broker, document_topology(PLACE)), Recorder()
    link.serve_requests(serve)
    link.start(recorder)
    return link, recorder


def test_synchronous_broker_is_done_when_a_call_returns() -> None:
    threads = NewThreads()
    broker = MemoryBroker(synchronous=True)
    (alpha, at_alpha), (_, at_beta) = started(broker), started(broker)
    confirms = Confirms()
    alpha.publish(news(alpha, b"news", done=confirms.of(1)))
    assert at_beta.bodies == [b"news"]
    assert confirms.results == [(1, True)]
    assert at_alpha.threads == {threading.current_thread()}
    assert threads.names() == []


def test_synchronous_broker_never_nests_calls_of_listeners() -> None:
    broker = MemoryBroker(synchronous=True)
    depth: list[int] = [0]
    deepest: list[int] = [0]

    class Echo(Recorder):
        def __init__(self, link: MemoryLink) -> None:
            super().__init__()
            self.link = link

        def delivered(self, delivery: Delivery) -> None:
            depth[0] += 1
            deepest[0] = max(deepest[0], depth[0])
            super().delivered(delivery)
            if len(self.deliveries) < 5:
                self.link.publish(news(link, delivery.body + b"!"))
            depth[0] -= 1

    links = [MemoryLink(broker, document_topology(PLACE)) for _ in range(2)]
    echoes = [Echo(link) for link in links]
    for link, echo in zip(links, echoes, strict=True):
        link.start(echo)
    links[0].publish(news(links[0], b"a"))
    assert echoes[0].bodies == [b"a!", b"a!!!", b"a!!!!!", b"a!!!!!!!"]
    assert deepest == [1]


def test_cut_link_hears_nothing_until_restored() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, at_alpha), (beta, at_beta) = started(broker), started(broker)
    broker.cut(beta)
    confirms = Confirms()
    beta.publish(news(beta, b"unheard", done=confirms.of(0)))
    alpha.publish(news(alpha, b"missed"))
    assert [type(error) for error in at_beta.downs] == [BrokerUnreachable]
    assert confirms.results == [(0, False)]
    assert at_alpha.order == ["up"]
    broker.restore(beta)
    alpha.publish(news(alpha, b"heard"))
    assert at_beta.bodies == [b"heard"]
    assert at_beta.order == ["up", "down", "up", "delivered"]


def test_refusal_keeps_links_out_until_lifted() -> None:
    broker = MemoryBroker(synchronous=True)
    broker.refuse(LoginRefused("wrong password"))
    _, recorder = started(broker)
    broker.refuse(LoginRefused("wrong again"))
    broker.refuse(BrokerUnreachable("gone"))
    broker.refuse(None)
    assert [type(error) for error in recorder.downs] == [LoginRefused, BrokerUnreachable]
    assert recorder.order == ["down", "down", "up"]


def test_dropped_messages_are_confirmed_but_not_delivered() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, _), (_, at_beta) = started(broker), started(broker)
    confirms = Confirms()
    broker.drop_next(2)
    for number in range(3):
        alpha.publish(news(alpha, b"%d" % number, done=confirms.of(number)))
    assert at_beta.bodies == [b"2"]
    assert confirms.results == [(0, True), (1, True), (2, True)]
    assert [message.body for message in broker.messages] == [b"0", b"1", b"2"]
    assert broker.messages[0].routing_key == routing_key(PLACE, "CACHE")


def test_paused_broker_holds_a_bounded_number_unconfirmed() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, _), (_, at_beta) = started(broker), started(broker)
    confirms = Confirms()
    broker.pause()
    for number in range(limits.PUBLISH_BACKLOG + 1):
        alpha.publish(news(alpha, b"%d" % number, done=confirms.of(number)))
    assert confirms.results == [(limits.PUBLISH_BACKLOG, False)]
    assert not at_beta.deliveries
    broker.resume()
    assert len(at_beta.deliveries) == limits.PUBLISH_BACKLOG
    assert all(taken for _, taken in confirms.results[1:])


def test_held_publications_are_lost_with_the_link() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, _), (beta, _), (_, heard) = started(broker), started(broker), started(broker)
    confirms = Confirms()
    broker.pause()
    alpha.publish(news(alpha, b"a", done=confirms.of(1)))
    beta.publish(news(beta, b"b", done=confirms.of(2)))
    broker.cut(alpha)
    beta.stop()
    broker.resume()
    assert confirms.results == [(1, False), (2, False)]
    assert not heard.deliveries


def test_time_to_live_follows_the_brokers_clock() -> None:
    clock = ManualClock()
    broker = MemoryBroker(synchronous=True, clock=clock)
    asker, _ = started(broker)
    for ttl_s in (1.0, 3.0):
        asker.publish(Publication(b"%d" % ttl_s, requests=True, ttl_s=ttl_s))
    clock.advance(2.0)
    _, at_server = started(broker, serve=True)
    assert at_server.bodies == [b"3"]


def test_queues_shorter_time_to_live_counts() -> None:
    clock = ManualClock()
    broker = MemoryBroker(synchronous=True, clock=clock)
    queue = Queue("shared", {"x-message-ttl": 2000}, (Binding("x", "#"),))
    topology = Topology((Exchange("x"),), Queue(), requests=queue)
    asker = MemoryLink(broker, topology)
    asker.start(Recorder())
    asker.publish(Publication(b"old", requests=True, ttl_s=60.0))
    clock.advance(1.5)
    asker.publish(Publication(b"young", "x", "anything"))
    asker.publish(Publication(b"hasty", requests=True, ttl_s=0.1))
    clock.advance(1.0)
    server, at_server = MemoryLink(broker, topology), Recorder()
    server.serve_requests(True)
    server.start(at_server)
    assert at_server.bodies == [b"young"]


@pytest.mark.parametrize(
    ("exchange_type", "heard"), [("topic", [b"1", b"2"]), ("direct", [b"2"]), ("fanout", [b"1", b"2", b"3"])]
)
def test_an_exchange_routes_as_its_type_says(exchange_type: str, heard: list[bytes]) -> None:
    broker = MemoryBroker(synchronous=True)
    topology = Topology((Exchange("x", exchange_type),), Queue(bindings=(Binding("x", "a.*"),)))
    (sender, _), (receiver, at_receiver) = ((MemoryLink(broker, topology), Recorder()) for _ in range(2))
    sender.start(Recorder())
    receiver.start(at_receiver)
    sender.publish(Publication(b"1", "x", "a.b"))
    sender.publish(Publication(b"2", "x", "a.*"))
    sender.publish(Publication(b"3", "x", "z"))
    assert at_receiver.bodies == heard


def test_unseen_request_of_cut_server_goes_to_another() -> None:
    broker = MemoryBroker()
    busy, release = threading.Event(), threading.Event()

    class Slow(Recorder):
        def delivered(self, delivery: Delivery) -> None:
            busy.set()
            assert release.wait(20)
            super().delivered(delivery)

    slow_link, slow = MemoryLink(broker, document_topology(PLACE)), Slow()
    slow_link.serve_requests(True)
    slow_link.start(slow)
    asker, _ = started(broker)
    asker.publish(Publication(b"first", requests=True))
    assert busy.wait(20)
    asker.publish(Publication(b"second", requests=True))
    broker.cut(slow_link)
    release.set()
    other, at_other = started(broker, serve=True)
    at_other.wait(deliveries=1)
    for link in (slow_link, asker, other):
        link.stop()
    assert slow.bodies == [b"first"]
    assert at_other.bodies == [b"second"]


def test_crashed_broker_loses_requests_and_regains_servers() -> None:
    broker = MemoryBroker(synchronous=True)
    asker, _ = started(broker)
    asker.publish(Publication(b"lost", requests=True))
    _, at_server = started(broker)
    broker.crash()
    broker.restart()
    assert at_server.order == ["up", "down", "up"]
    _, late = started(broker, serve=True)
    asker.publish(Publication(b"asked again", requests=True))
    assert late.bodies == [b"asked again"]


def test_a_link_up_may_publish_at_once() -> None:
    broker = MemoryBroker(synchronous=True)
    _, heard = started(broker)
    link = MemoryLink(broker, document_topology(PLACE))

    class Greets(Recorder):
        def link_up(self, up: LinkUp) -> None:
            super().link_up(up)
            link.publish(news(link, b"hello"))

    link.start(Greets())
    assert heard.bodies == [b"hello"]
