"""What strangers delete and send at a real RabbitMQ, and what a link makes of it."""

from __future__ import annotations

import random
import threading

import pika
import pytest

from miros_cache_net import limits
from miros_cache_net.amqp import channels
from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link import Publication
from miros_cache_net.errors import (
    ExchangeConflict,
    LoginRefused,
    TopologyLost,
)
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, TcpForwarder, wait_until
from tests.integration.link_contract import Recorder, news, talk
from tests.integration.rabbit_links import NewSockets, StartLink, channel_to, is_up, told


def test_recreated_exchange_leaves_no_link_deaf(rabbit_url: str, start_link: StartLink, place: Place) -> None:
    sockets = NewSockets(BrokerAddress.parse(rabbit_url).port)
    # So long a time out that only the canary's return can tell.
    options = {"canary_interval_s": 0.3, "canary_timeout_s": 600.0}
    (link, at_link), (_, at_other) = start_link(rabbit_url, **options), start_link(rabbit_url, **options)
    is_up(at_link)
    is_up(at_other)
    with channel_to(rabbit_url) as channel:
        channel.exchange_delete(place.exchange)
        channel.exchange_declare(place.exchange, "topic", durable=True)
    is_up(at_other, 2)
    assert [type(error) for error in at_other.downs] == [TopologyLost]
    talk(link, at_other, b"after")
    wait_until(lambda: sockets.count() == 4, what="the lost sockets to go")


#: What RabbitMQ 3 keeps of a topic exchange beside its bindings, which is what it routes by.
_ROUTES = """
length([mnesia:dirty_delete_object(rabbit_topic_trie_edge, Edge) ||
    Edge = {_, {_, {resource, _, exchange, <<"%s">>}, _, Word}, _} <- ets:tab2list(rabbit_topic_trie_edge),
    Word =:= "cache"]).
"""


def test_lost_route_is_noticed_though_all_looks_well(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    options = {"canary_interval_s": 0.3, "canary_timeout_s": 2.0}
    (link, at_link), (other, at_other) = start_link(rabbit_url, **options), start_link(rabbit_url, **options)
    is_up(at_link)
    is_up(at_other)
    talk(link, at_other, b"before")
    assert int(rabbit_server.ctl("eval", _ROUTES % place.exchange)) > 0
    link.publish(news(link, b"to nobody"))
    is_up(at_link, 2)
    (error,) = at_link.downs
    assert isinstance(error, TopologyLost) and "routes nothing more" in str(error)
    talk(other, at_link, b"after")
    assert b"to nobody" not in at_other.bodies


def test_deleted_queue_is_noticed_without_a_canary(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    _, recorder = start_link(rabbit_url, canary_interval_s=600.0)
    is_up(recorder)
    rabbit_server.ctl("delete_queue", recorder.own_queue)
    is_up(recorder, 2)
    assert [type(error) for error in recorder.downs] == [TopologyLost]


def test_fatal_error_ends_all_attempts(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    class NoPause(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return 0.0

    with channel_to(rabbit_url) as channel:
        channel.exchange_declare(place.exchange, "fanout", durable=True)
    with TcpForwarder(rabbit_server.port) as forwarder:
        address = BrokerAddress("127.0.0.1", forwarder.port)
        link, recorder = RabbitLink(document_topology(place), [address], rng=NoPause()), Recorder()
        link.start(recorder)
        told(recorder, ExchangeConflict)
        # Time enough for those who go on trying without a pause.
        _, other = start_link(f"amqp://nobody@127.0.0.1:{rabbit_server.port}")
        told(other, LoginRefused)
        link.stop()
        assert forwarder.accepted <= 2, "both connections of the one attempt"


def test_canaries_are_unheard_and_keep_link_up(rabbit_url: str, start_link: StartLink, place: Place) -> None:
    _, recorder = start_link(rabbit_url, canary_interval_s=0.02, canary_timeout_s=20.0)
    _, other = start_link(rabbit_url)
    is_up(recorder)
    is_up(other)
    with channel_to(rabbit_url) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, place.exchange, "canary.#")
        wait_until(lambda: channel.queue_declare(queue, passive=True).method.message_count >= 10)
    assert recorder.order == other.order == ["up"]


def test_a_missing_canary_is_noticed_within_its_time(
    rabbit_url: str, start_link: StartLink, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A canary into a key that is bound elsewhere is neither returned nor heard.
    with channel_to(rabbit_url) as channel:
        channel.exchange_declare(place.exchange, "topic", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, place.exchange, "lost.*")
        _, recorder = start_link(rabbit_url, canary_interval_s=0.2, canary_timeout_s=0.2)
        is_up(recorder)
        monkeypatch.setattr(channels, "canary_key", lambda token: f"lost.{token}")
        told(recorder, TopologyLost)
        monkeypatch.undo()
    is_up(recorder, 2)


def test_hanging_server_keeps_few_requests_from_others(rabbit_url: str, start_link: StartLink) -> None:
    asker, at_asker = start_link(rabbit_url)
    hanging, at_hanging = start_link(rabbit_url, serve=True)
    is_up(at_asker)
    is_up(at_hanging)
    release = threading.Event()

    def hang(_taken: bool) -> None:
        release.wait(20)

    hanging.publish(Publication(b"", queue=at_hanging.own_queue, done=hang))
    _, at_other = start_link(rabbit_url, serve=True)
    is_up(at_other)
    for number in range(40):
        asker.publish(Publication(b"%d" % number, requests=True))
    at_other.wait(deliveries=40 - limits.REQUEST_PREFETCH)
    release.set()
    wait_until(lambda: len(at_hanging.deliveries) + len(at_other.deliveries) == 41)


def test_every_message_is_acknowledged_soon(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    link.publish(Publication(b"one", queue=recorder.own_queue))
    recorder.wait(deliveries=1)

    def kept() -> dict[str, str]:
        rows = rabbit_server.ctl("list_queues", "name", "messages", "--no-table-headers").splitlines()
        return dict(row.split("\t") for row in rows)

    wait_until(lambda: kept()[recorder.own_queue] == "0")


def test_undecodable_properties_cost_neither_message_nor_link(
    rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    _, recorder = start_link(rabbit_url)
    is_up(recorder)
    deep = b"F\x00\x00\x00\x00"
    for _ in range(2000):
        deep = b"F" + (len(deep) + 2).to_bytes(4, "big") + b"\x01a" + deep
    far = b"T" + b"\xff" * 8
    for number, value in enumerate((far, deep)):
        _publish_raw(rabbit_url, recorder.own_queue, b"hostile %d" % number, value)
    with channel_to(rabbit_url) as channel:
        headers = {"key-id": 7, "x": [None, {"y": b"\xff"}]}
        properties = pika.BasicProperties(reply_to="somebody.elses.queue", headers=headers, app_id="x" * 255)
        channel.basic_publish("", recorder.own_queue, b"odd", properties)
    wait_until(lambda: b"odd" in recorder.bodies)
    assert recorder.bodies == [b"hostile 0", b"hostile 1", b"odd"]
    assert all(d.reply_to == "" and d.key_id == "" for d in recorder.deliveries)
    assert recorder.order.count("up") == 1 and not recorder.downs


def _publish_raw(url: str, queue: str, body: bytes, value: bytes) -> None:
    """Publish with one header whose encoded `value` pika itself would not make."""

    class RawProperties(pika.BasicProperties):  # type: ignore[misc]
        def encode(self) -> list[bytes]:
            table = b"\x01h" + value
            return [(1 << 13).to_bytes(2, "big"), len(table).to_bytes(4, "big"), table]

    with channel_to(url) as channel:
        channel.basic_publish("", queue, body, RawProperties())
        channel.queue_declare(queue="", exclusive=True)


def test_a_flood_keeps_only_the_newest_messages(rabbit_url: str, start_link: StartLink) -> None:
    release = threading.Event()

    class Slow(Recorder):
        def delivered(self, delivery: object) -> None:
            release.wait(20)
            super().delivered(delivery)  # type: ignore[arg-type]

    _, recorder = start_link(rabbit_url)
    is_up(recorder)
    recorder.__class__ = Slow
    with channel_to(rabbit_url) as channel:
        for number in range(3 * limits.NODE_QUEUE_MESSAGES):
            channel.basic_publish("", recorder.own_queue, b"%d" % number)
    release.set()
    wait_until(lambda: b"%d" % (3 * limits.NODE_QUEUE_MESSAGES - 1) in recorder.bodies, 20)
    assert len(recorder.bodies) <= limits.NODE_QUEUE_MESSAGES + limits.PREFETCH
    assert not recorder.downs
