"""A link may ask one question before it has a queue of its own; what goes wrong with that costs no more than time."""

from __future__ import annotations

from collections.abc import Callable

import pika
import pytest

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.consumer import Consumer
from miros_cache_net.amqp.first_look import FirstLook
from miros_cache_net.amqp.link import Delivery, FirstQuestion, Place, Publication
from miros_cache_net.errors import BrokerUnreachable
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, wait_until
from tests.integration.link_contract import Recorder
from tests.integration.rabbit_links import StartLink, channel_to, is_up, requests_at, wait_for_servers
from tests.integration.tcp_forwarder import TcpForwarder

QUESTION = Publication(b"who knows?", requests=True, reply_here=True)
StartLooking = Callable[..., tuple[RabbitLink, Recorder, list[int]]]


class Answering(Recorder):
    """Answers each request."""

    link: RabbitLink

    def delivered(self, delivery: Delivery) -> None:
        super().delivered(delivery)
        if delivery.reply_to:
            self.link.publish(Publication(b"I do", queue=delivery.reply_to, key_id="k"))


@pytest.fixture(name="looking")
def new_looking(place: Place, rabbit_url: str) -> StartLooking:
    links: list[RabbitLink] = []

    def start(has_none: int = 0) -> tuple[RabbitLink, Recorder, list[int]]:
        """A link with a first question, though not the first times, and a list that gets longer when asked for it."""
        link, recorder, asked = RabbitLink(place, [BrokerAddress.parse(rabbit_url)]), Recorder(), list[int]()
        links.append(link)

        def question() -> Publication | None:
            asked.append(len(asked))
            return QUESTION if len(asked) > has_none else None

        link.start(recorder, question)
        return link, recorder, asked

    yield start
    for link in links:
        link.stop()


@pytest.fixture(name="peer")
def new_peer(place: Place, rabbit_url: str) -> Answering:
    peer = Answering()
    peer.link = RabbitLink(place, [BrokerAddress.parse(rabbit_url)])
    peer.link.serve_requests(True)
    peer.link.start(peer)
    wait_for_servers(rabbit_url, place)
    yield peer
    peer.link.stop()


def works(link: RabbitLink, recorder: Recorder) -> None:
    """It stands, publishes and consumes."""
    is_up(recorder)
    before = len(recorder.deliveries)
    link.publish(Publication(b"to myself", queue=recorder.own_queue))
    recorder.wait(deliveries=before + 1)
    assert recorder.bodies[-1] == b"to myself"


@pytest.fixture(name="patient")
def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_LOOK_S", 20.0)


@pytest.mark.usefixtures("patient")
def test_the_answer_comes_before_the_link_has_a_queue_of_its_own(peer: Answering, looking: StartLooking) -> None:
    link, recorder, asked = looking()
    works(link, recorder)
    assert recorder.order[:2] == ["delivered", "up"]
    assert (recorder.deliveries[0].body, recorder.deliveries[0].key_id) == (b"I do", "k")
    assert peer.bodies == [b"who knows?"] and len(asked) == 1
    assert peer.deliveries[0].from_requests
    assert peer.deliveries[0].reply_to.startswith(topology.DIRECT_REPLY_TO + ".")


@pytest.mark.usefixtures("patient")
def test_who_has_no_question_yet_when_it_connects_may_ask_it_before_it_sets_up(
    peer: Answering, looking: StartLooking
) -> None:
    link, recorder, asked = looking(has_none=1)
    works(link, recorder)
    assert recorder.order[:2] == ["delivered", "up"]
    assert peer.bodies == [b"who knows?"] and len(asked) == 2


def test_who_has_no_question_then_either_is_not_asked_again(peer: Answering, looking: StartLooking) -> None:
    link, recorder, asked = looking(has_none=2)
    works(link, recorder)
    assert recorder.order[0] == "up" and peer.bodies == [] and len(asked) == 2


def test_where_nobody_answers_the_link_goes_on_and_leaves_no_question_behind(
    looking: StartLooking, rabbit_url: str, place: Place
) -> None:
    assert requests_at(rabbit_url, place) == (0, 0)
    link, recorder, asked = looking()
    works(link, recorder)
    wait_until(lambda: requests_at(rabbit_url, place)[0] == 0, what="the question to be dropped")
    link.serve_requests(True)
    wait_for_servers(rabbit_url, place)
    works(link, recorder)
    assert recorder.bodies == [b"to myself"] * 2 and len(asked) == 1


def test_an_answer_that_comes_too_late_comes_to_nobody(
    start_link: StartLink, looking: StartLooking, rabbit_url: str, place: Place
) -> None:
    at_peer, at_silent = start_link(rabbit_url, serve=True)
    wait_for_servers(rabbit_url, place)
    link, recorder, _ = looking()
    works(link, recorder)
    at_silent.wait(deliveries=1)
    at_peer.publish(Publication(b"late", queue=at_silent.deliveries[0].reply_to))
    at_peer.publish(Publication(b"after it", queue=recorder.own_queue))
    recorder.wait(deliveries=2)
    assert recorder.bodies == [b"to myself", b"after it"]
    assert not recorder.downs


def test_during_an_alarm_a_link_looks_once_and_again_when_it_is_over(
    rabbit_server: RabbitServer, looking: StartLooking
) -> None:
    rabbit_server.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        link, recorder, asked = looking()
        is_up(recorder)
        assert "alarm" in str(recorder.downs[0])
        assert len(asked) == 1
    finally:
        rabbit_server.ctl("set_vm_memory_high_watermark", "0.4")
    works(link, recorder)
    rabbit_server.ctl("close_all_connections", "the alarm is over")
    recorder.wait(ups=2)
    assert len(asked) == 2


@pytest.mark.usefixtures("patient")
def test_a_broker_that_knows_no_direct_reply_to_costs_nothing(
    looking: StartLooking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "DIRECT_REPLY_TO", "no.such.queue")
    link, recorder, asked = looking()
    works(link, recorder)
    assert recorder.downs == [] and len(asked) == 1


@pytest.mark.usefixtures("patient")
def test_a_link_that_is_stopped_while_it_looks_leaves_nothing(
    looking: StartLooking, start_link: StartLink, rabbit_url: str, place: Place
) -> None:
    start_link(rabbit_url, serve=True)
    wait_for_servers(rabbit_url, place)
    link, recorder, asked = looking()
    wait_until(lambda: bool(asked), what="the question")
    link.stop()
    assert recorder.order == []


@pytest.mark.usefixtures("patient")
def test_a_link_looks_again_after_each_session_that_stood(
    peer: Answering, looking: StartLooking, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumers: list[Consumer] = []
    opened = Consumer._opened

    def note(consumer: Consumer, connection: object) -> None:
        consumers.append(consumer)
        opened(consumer, connection)

    monkeypatch.setattr(Consumer, "_opened", note)
    link, recorder, asked = looking()
    works(link, recorder)
    first = consumers[0]
    first._services.add_callback_threadsafe(lambda: first.lost(BrokerUnreachable("pulled")))
    recorder.wait(ups=2)
    assert recorder.order[:2] == ["delivered", "up"] and recorder.order[-2:] == ["delivered", "up"]
    assert len(asked) == 2 and len(peer.deliveries) == 2


def test_a_fault_in_the_look_is_contained(
    looking: StartLooking, monkeypatch: pytest.MonkeyPatch, peer: Answering
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(FirstLook, "start", fail)
    link, recorder, asked = looking()
    works(link, recorder)
    assert len(recorder.downs) == 1 and len(asked) == 1 and peer.deliveries == []


def raises() -> Publication:
    raise RuntimeError("planted")


@pytest.mark.parametrize("question", [raises, lambda: Publication(b"news", kind="CACHE")], ids=["raises", "is none"])
def test_a_first_question_that_cannot_be_had_is_none(
    place: Place, rabbit_url: str, question: FirstQuestion, caplog: pytest.LogCaptureFixture
) -> None:
    link, recorder = RabbitLink(place, [BrokerAddress.parse(rabbit_url)]), Recorder()
    link.start(recorder, question)
    try:
        works(link, recorder)
    finally:
        link.stop()
    assert recorder.downs == []
    assert "contained" in caplog.text


@pytest.mark.usefixtures("patient")
def test_only_the_first_answer_counts(
    looking: StartLooking, start_link: StartLink, rabbit_url: str, place: Place
) -> None:
    at_peer, at_talkative = start_link(rabbit_url, serve=True)
    wait_for_servers(rabbit_url, place)
    link, recorder, _ = looking()
    at_talkative.wait(deliveries=1)
    for number in range(100):
        at_peer.publish(Publication(b"%d" % number, queue=at_talkative.deliveries[0].reply_to))
    works(link, recorder)
    assert recorder.bodies == [b"0", b"to myself"]


def test_an_attempt_that_did_not_come_so_far_as_to_look_does_not_forbid_it(
    rabbit_server: RabbitServer, place: Place
) -> None:
    asked: list[None] = []

    def question() -> Publication:
        asked.append(None)
        return QUESTION

    with TcpForwarder(rabbit_server.port) as forwarder:
        forwarder.refuse()
        link, recorder = RabbitLink(place, [BrokerAddress.parse(f"amqp://127.0.0.1:{forwarder.port}")]), Recorder()
        link.start(recorder, question)
        recorder.wait(downs=1)
        forwarder.accept()
        works(link, recorder)
        link.stop()
    assert len(asked) == 1


def test_no_channel_of_the_look_is_left(
    looking: StartLooking, start_link: StartLink, rabbit_server: RabbitServer, rabbit_url: str, place: Place
) -> None:
    def channels() -> int:
        return len(rabbit_server.ctl("list_channels", "-q", "number").split())

    link, recorder = start_link(rabbit_url)
    works(link, recorder)
    with_one = channels()
    assert with_one >= 3
    link, recorder, asked = looking()
    works(link, recorder)
    assert len(asked) == 1
    wait_until(lambda: channels() == with_one + 3, what="two channels to consume and one to publish")


FORGED = f"{topology.DIRECT_REPLY_TO}.forged.address"


def test_who_forges_where_to_answer_costs_one_host_one_connection(
    peer: Answering, start_link: StartLink, rabbit_url: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def forge(exchange: str, key: str) -> None:
        channel.basic_publish(exchange, key, b"captured", pika.BasicProperties(reply_to=FORGED))

    _, other = start_link(rabbit_url)
    is_up(other)
    with channel_to(rabbit_url) as channel:
        forge(place.exchange, topology.routing_key(place, "CACHE_FILE_READ"))
        peer.wait(deliveries=1)
        other.wait(deliveries=1)
        assert peer.deliveries[0].reply_to == other.deliveries[0].reply_to == "", (
            "of what all hosts get, nobody is asked"
        )
        forge("", topology.request_queue_name(place))
        peer.wait(downs=1, ups=2)
        assert "no answer to" not in caplog.text and "maybe forged" in caplog.text
        before = len(peer.deliveries)
        for _ in range(3):
            forge("", topology.request_queue_name(place))
        wait_until(lambda: len(peer.deliveries) >= before + 3, what="the next ones")
        assert [each.reply_to for each in peer.deliveries[before:]] == [""] * 3
    works(peer.link, peer)
    assert len(peer.downs) == 1
