"""The in-memory broker keeps the promises of the real one, and the faults that it plays are those asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Place, Publication
from miros_cache_net.amqp.memory import MemoryBroker, MemoryLink
from miros_cache_net.errors import BrokerUnreachable, LoginRefused
from miros_cache_net.testing import ManualClock
from tests.integration.link_contract import Confirms, LinkContract, Recorder, Rig

PLACE = Place("miros.cache.exchange", "fleet", "cache")


class MemoryRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker()

    def make(self, place: Place) -> Link:
        return MemoryLink(self.broker, place)

    def crash(self) -> None:
        self.broker.crash()

    def restart(self) -> None:
        self.broker.restart()

    def declare_exchange(self, name: str, exchange_type: str) -> None:
        self.broker.declare_exchange(name, exchange_type)

    def delete_exchange(self, name: str) -> None:
        self.broker.delete_exchange(name)

    def delete_queue(self, name: str) -> None:
        self.broker.delete_queue(name)

    def withhold_requests(self, place: Place) -> None:
        self.broker.withhold_requests(place)

    def grant_requests(self, place: Place) -> None:
        self.broker.grant_requests(place)

    def queue_exists(self, name: str) -> bool:
        return self.broker.consumers(name) > 0

    def request_consumers(self, place: Place) -> int:
        return self.broker.consumers(topology.request_queue_name(place))


class TestMemoryLink(LinkContract):
    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        rig = MemoryRig()
        yield rig
        rig.close()


def started(broker: MemoryBroker, *, serve: bool = False) -> tuple[MemoryLink, Recorder]:
    link, recorder = MemoryLink(broker, PLACE), Recorder()
    link.serve_requests(serve)
    link.start(recorder)
    return link, recorder


def test_a_synchronous_broker_has_no_threads_and_all_is_done_when_a_call_returns() -> None:
    before = threading.enumerate()
    broker = MemoryBroker(synchronous=True)
    (alpha, at_alpha), (_, at_beta) = started(broker), started(broker)
    confirms = Confirms()
    alpha.publish(Publication(b"news", kind="CACHE", done=confirms.of(1)))
    assert at_beta.bodies == [b"news"]
    assert confirms.results == [(1, True)]
    assert at_alpha.threads == {threading.current_thread()}
    assert threading.enumerate() == before


def test_a_synchronous_broker_never_calls_a_listener_from_within_another_call() -> None:
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
                self.link.publish(Publication(delivery.body + b"!", kind="CACHE"))
            depth[0] -= 1

    links = [MemoryLink(broker, PLACE) for _ in range(2)]
    echoes = [Echo(link) for link in links]
    for link, echo in zip(links, echoes, strict=True):
        link.start(echo)
    links[0].publish(Publication(b"a", kind="CACHE"))
    assert echoes[0].bodies == [b"a!", b"a!!!", b"a!!!!!", b"a!!!!!!!"]
    assert deepest == [1]


def test_a_link_that_is_cut_hears_nothing_until_it_is_restored() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, at_alpha), (beta, at_beta) = started(broker), started(broker)
    broker.cut(beta)
    confirms = Confirms()
    beta.publish(Publication(b"unheard", kind="CACHE", done=confirms.of(0)))
    alpha.publish(Publication(b"missed", kind="CACHE"))
    assert [type(error) for error in at_beta.downs] == [BrokerUnreachable]
    assert confirms.results == [(0, False)]
    assert at_alpha.order == ["up"]
    broker.restore(beta)
    alpha.publish(Publication(b"heard", kind="CACHE"))
    assert at_beta.bodies == [b"heard"]
    assert at_beta.order == ["up", "down", "up", "delivered"]


def test_a_refusal_keeps_links_out_until_it_is_lifted_and_each_cause_is_told_once() -> None:
    broker = MemoryBroker(synchronous=True)
    broker.refuse(LoginRefused("wrong password"))
    _, recorder = started(broker)
    broker.refuse(LoginRefused("wrong again"))
    broker.refuse(BrokerUnreachable("gone"))
    broker.refuse(None)
    assert [type(error) for error in recorder.downs] == [LoginRefused, BrokerUnreachable]
    assert recorder.order == ["down", "down", "up"]


def test_dropped_messages_are_confirmed_logged_and_delivered_to_nobody() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, _), (_, at_beta) = started(broker), started(broker)
    confirms = Confirms()
    broker.drop_next(2)
    for number in range(3):
        alpha.publish(Publication(b"%d" % number, kind="CACHE", done=confirms.of(number)))
    assert at_beta.bodies == [b"2"]
    assert confirms.results == [(0, True), (1, True), (2, True)]
    assert [message.body for message in broker.messages] == [b"0", b"1", b"2"]
    assert broker.messages[0].routing_key == topology.routing_key(PLACE, "CACHE")


def test_a_paused_broker_confirms_nothing_until_it_resumes_and_holds_a_bounded_number() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, _), (_, at_beta) = started(broker), started(broker)
    confirms = Confirms()
    broker.pause()
    for number in range(limits.PUBLISH_BACKLOG + 1):
        alpha.publish(Publication(b"%d" % number, kind="CACHE", done=confirms.of(number)))
    assert confirms.results == [(limits.PUBLISH_BACKLOG, False)]
    assert not at_beta.deliveries
    broker.resume()
    assert len(at_beta.deliveries) == limits.PUBLISH_BACKLOG
    assert all(taken for _, taken in confirms.results[1:])


def test_publications_held_by_a_paused_broker_are_lost_with_the_link_or_its_stop() -> None:
    broker = MemoryBroker(synchronous=True)
    (alpha, _), (beta, _), (_, heard) = started(broker), started(broker), started(broker)
    confirms = Confirms()
    broker.pause()
    alpha.publish(Publication(b"a", kind="CACHE", done=confirms.of(1)))
    beta.publish(Publication(b"b", kind="CACHE", done=confirms.of(2)))
    broker.cut(alpha)
    beta.stop()
    broker.resume()
    assert confirms.results == [(1, False), (2, False)]
    assert not heard.deliveries


def test_times_to_live_are_judged_by_the_brokers_clock() -> None:
    clock = ManualClock()
    broker = MemoryBroker(synchronous=True, clock=clock)
    asker, _ = started(broker)
    for ttl_s in (1.0, 3.0):
        asker.publish(Publication(b"%d" % ttl_s, requests=True, ttl_s=ttl_s))
    clock.advance(2.0)
    _, at_server = started(broker, serve=True)
    assert at_server.bodies == [b"3"]


def test_a_request_that_its_server_did_not_look_at_before_it_was_cut_goes_to_another() -> None:
    broker = MemoryBroker()
    busy, release = threading.Event(), threading.Event()

    class Slow(Recorder):
        def delivered(self, delivery: Delivery) -> None:
            busy.set()
            assert release.wait(20)
            super().delivered(delivery)

    slow_link, slow = MemoryLink(broker, PLACE), Slow()
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


def test_the_requests_of_a_crashed_broker_are_gone_but_its_servers_come_back() -> None:
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
    link = MemoryLink(broker, PLACE)

    class Greets(Recorder):
        def link_up(self, up: LinkUp) -> None:
            super().link_up(up)
            link.publish(Publication(b"hello", kind="CACHE"))

    link.start(Greets())
    assert heard.bodies == [b"hello"]
