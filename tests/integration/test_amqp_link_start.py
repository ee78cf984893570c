"""How a link to a real RabbitMQ comes up: with both connections or not at all, slowly, during an alarm."""

from __future__ import annotations

import queue
import threading

import pika
import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import Publication
from miros_cache_net.amqp.publisher import Publisher
from miros_cache_net.errors import BrokerUnreachable, VhostRefused
from miros_cache_net.fleet.place import Place, routing_key
from miros_cache_net.testing import RabbitServer, TcpForwarder, wait_until
from tests.integration.link_contract import news
from tests.integration.rabbit_links import StartLink, channel_to, is_up, publish_inside, told


def test_a_link_stands_only_with_both_connections(
    rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    def refused(publisher: Publisher) -> None:
        nonlocal attempts
        attempts += 1
        publisher.lost(BrokerUnreachable("the broker grants one connection"))

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "open", refused)
        link, recorder = start_link(rabbit_url)
        wait_until(lambda: attempts >= 3, timeout_s=60, what="more attempts")
        assert recorder.order == ["down"], "told once, not with each attempt"
    is_up(recorder)
    confirmed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    link.publish(news(link, b"news", done=confirmed.put))
    assert confirmed.get(timeout=30)
    assert recorder.order == ["down", "up"]


def test_a_link_that_may_not_consume_never_stands(rabbit_server: RabbitServer, start_link: StartLink) -> None:
    user = "no-reader"
    url = rabbit_server.add_user(user, "secret")
    rabbit_server.ctl("set_permissions", user, ".*", ".*", "^$")
    _, recorder = start_link(url)
    told(recorder, VhostRefused)
    rabbit_server.ctl("set_permissions", user, ".*", ".*", ".*")
    is_up(recorder)
    assert recorder.order == ["down", "up"]


def test_link_comes_up_and_consumes_during_an_alarm(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    _, at_peer = start_link(rabbit_url, serve=True)
    is_up(at_peer)
    held = list[bool]()
    rabbit_server.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        link, recorder = start_link(rabbit_url)
        is_up(recorder)
        link.publish(Publication(b"who knows?", requests=True, reply_here=True))
        link.acquire_lease(held.append)
        wait_until(lambda: held == [True], what="an answer of the broker on the consuming connection")
        publish_inside(rabbit_server, recorder.own_queue, "x", 2 * limits.PREFETCH)
        recorder.wait(deliveries=2 * limits.PREFETCH)
        assert at_peer.deliveries == []
    finally:
        rabbit_server.ctl("set_vm_memory_high_watermark", "0.4")
    at_peer.wait(deliveries=1)
    assert recorder.downs == []


def test_a_slow_network_is_no_silent_broker(rabbit_server: RabbitServer, start_link: StartLink) -> None:
    with TcpForwarder(rabbit_server.port) as forwarder:
        forwarder.slow_down(0.3)
        link, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", connect_timeout_s=2.0, heartbeat_s=30)
        recorder.wait(ups=1, timeout_s=30)
        confirmed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        link.publish(news(link, b"news", done=confirmed.put))
        assert confirmed.get(timeout=30)
        assert recorder.order == ["up"]
        forwarder.slow_down(0.0)
        link.stop()


def test_a_link_that_stands_is_no_longer_timed(rabbit_url: str, start_link: StartLink) -> None:
    link, recorder = start_link(rabbit_url, connect_timeout_s=0.5)
    is_up(recorder)
    assert link._thread is not None
    late = threading.Event()
    link._thread.call(lambda: link._thread.services.call_later(4 * 0.5, late.set))  # type: ignore[union-attr]
    assert late.wait(30)
    assert recorder.downs == []


def test_nothing_is_delivered_before_a_link_can_publish(
    rabbit_server: RabbitServer, rabbit_url: str, place: Place, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Publisher.open
    held: queue.SimpleQueue[Publisher] = queue.SimpleQueue()
    monkeypatch.setattr(Publisher, "open", lambda publisher: held.put(publisher))  # noqa: PLW0108 - to bind it
    link, recorder = start_link(rabbit_url)
    publisher = held.get(timeout=30)
    with channel_to(rabbit_url) as channel:
        # as the link does, which may not have come to it yet
        channel.exchange_declare(place.exchange, "topic", durable=True)
        channel.confirm_delivery()

        def bound() -> bool:
            try:
                channel.basic_publish(place.exchange, routing_key(place, "CACHE"), b"early", mandatory=True)
            except pika.exceptions.UnroutableError:
                return False
            return True

        wait_until(bound, what="the link's queue")
    rabbit_server.ctl("list_queues")  # time enough for a delivery
    assert recorder.order == []
    assert link._thread is not None
    link._thread.call(lambda: opened(publisher))
    recorder.wait(deliveries=1)
    assert recorder.order == ["up", "delivered"] and recorder.bodies == [b"early"]
