"""A link consumes, and asks, before it has its second connection; that is made when something is to be published."""

from __future__ import annotations

import queue
import threading

import psutil
import pytest

from miros_cache_net import limits
from miros_cache_net.amqp import session
from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link import LinkUp, Place, Publication
from miros_cache_net.amqp.publisher import Publisher
from miros_cache_net.errors import BrokerUnreachable, VhostRefused
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, wait_until
from tests.integration.link_contract import Recorder
from tests.integration.rabbit_links import StartLink, is_up, sockets_to, told
from tests.integration.tcp_forwarder import TcpForwarder


def test_a_link_that_is_stopped_before_it_has_published_leaves_nothing(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PUBLISHER_AFTER_S", 60.0)
    sockets, files = sockets_to(rabbit_server.port), psutil.Process().num_fds()
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    assert sockets_to(rabbit_server.port) == sockets + 1
    link.stop()
    assert (sockets_to(rabbit_server.port), psutil.Process().num_fds()) == (sockets, files)
    assert not [thread for thread in threading.enumerate() if "miros-cache-link" in thread.name]


def test_a_question_is_asked_before_there_is_a_connection_to_publish_and_all_else_makes_one(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, at_peer = start_link(rabbit_url, serve=True)
    is_up(at_peer)
    monkeypatch.setattr(session, "PUBLISHER_AFTER_S", 60.0)
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    sockets = sockets_to(rabbit_server.port)
    link.publish(Publication(b"who knows?", requests=True, reply_here=True))
    at_peer.wait(deliveries=1)
    (question,) = at_peer.deliveries
    assert (question.body, question.from_requests, question.reply_to) == (b"who knows?", True, recorder.own_queue)
    assert sockets_to(rabbit_server.port) == sockets
    confirmed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    link.publish(Publication(b"news", kind="CACHE", done=confirmed.put))
    assert confirmed.get(timeout=30)
    assert sockets_to(rabbit_server.port) == sockets + 1


def test_a_question_whose_sending_is_to_be_confirmed_waits_for_the_connection_that_confirms(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PUBLISHER_AFTER_S", 60.0)
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    sockets = sockets_to(rabbit_server.port)
    confirmed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    link.publish(Publication(b"who knows?", requests=True, done=confirmed.put))
    assert confirmed.get(timeout=30)
    assert sockets_to(rabbit_server.port) == sockets + 1


def test_a_link_whose_publishing_connection_is_refused_says_so_once_and_waits_for_both(
    rabbit_server: RabbitServer, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    def refused(publisher: Publisher, _connection: object) -> None:
        nonlocal attempts
        attempts += 1
        publisher.lost(BrokerUnreachable("the broker grants one connection"))

    with TcpForwarder(rabbit_server.port) as forwarder:
        forwarder.refuse()
        with monkeypatch.context() as patched:
            patched.setattr(Publisher, "_opened", refused)
            link, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}")
            recorder.wait(downs=1)
            forwarder.accept()
            recorder.wait(downs=2, timeout_s=60)
            wait_until(lambda: attempts >= 5, timeout_s=60, what="more attempts")
            assert recorder.order == ["down", "up", "down"], "after each that stands, and not with each attempt"
        is_up(recorder, 2)
        confirmed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        link.publish(Publication(b"news", kind="CACHE", done=confirmed.put))
        assert confirmed.get(timeout=30)
        assert recorder.order == ["down", "up", "down", "up"]
        link.stop()


def test_a_link_that_may_not_consume_never_stands(rabbit_server: RabbitServer, start_link: StartLink) -> None:
    user = "no-reader"
    url = rabbit_server.add_user(user, "secret")
    rabbit_server.ctl("set_permissions", user, ".*", ".*", "^$")
    _, recorder = start_link(url)
    told(recorder, VhostRefused)
    rabbit_server.ctl("set_permissions", user, ".*", ".*", ".*")
    is_up(recorder)
    assert recorder.order == ["down", "up"]


def test_who_asks_during_an_alarm_goes_on_consuming(
    rabbit_server: RabbitServer, rabbit_url: str, place: Place, start_link: StartLink
) -> None:
    _, at_peer = start_link(rabbit_url, serve=True)
    is_up(at_peer)

    class Asking(Recorder):
        def link_up(self, up: LinkUp) -> None:
            super().link_up(up)
            link.publish(Publication(b"who knows?", requests=True, reply_here=True))

    link, recorder, held = RabbitLink(place, [BrokerAddress.parse(rabbit_url)]), Asking(), list[bool]()
    rabbit_server.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        link.start(recorder)
        recorder.wait(downs=1, timeout_s=60)
        assert "alarm" in str(recorder.downs[0])
        recorder.wait(ups=2, timeout_s=60)
        link.acquire_lease(held.append)
        wait_until(lambda: held == [True], what="an answer of the broker on the consuming connection")
        send = f'rabbit_basic:publish(rabbit_misc:r(<<"/">>, exchange, <<>>), <<"{recorder.own_queue}">>, [], <<"x">>)'
        rabbit_server.ctl("eval", f"[{send} || _ <- lists:seq(1, {2 * limits.PREFETCH})].")
        recorder.wait(deliveries=2 * limits.PREFETCH)
        assert at_peer.deliveries == []
    finally:
        rabbit_server.ctl("set_vm_memory_high_watermark", "0.4")
    at_peer.wait(deliveries=1)
    assert len(recorder.downs) == 1
    link.stop()


def test_each_of_the_two_connections_has_its_own_time(rabbit_server: RabbitServer, start_link: StartLink) -> None:
    with TcpForwarder(rabbit_server.port) as forwarder:
        forwarder.slow_down(0.3)
        link, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", connect_timeout_s=2.0, heartbeat_s=30)
        recorder.wait(ups=1, timeout_s=30)
        confirmed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        link.publish(Publication(b"news", kind="CACHE", done=confirmed.put))
        assert confirmed.get(timeout=30)
        assert recorder.order == ["up"]
        forwarder.slow_down(0.0)
        link.stop()


def test_a_session_that_is_lost_before_it_has_published_makes_no_connection_any_more(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PUBLISHER_AFTER_S", 0.5)
    sockets = sockets_to(rabbit_server.port)
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    assert link._thread is not None
    due = threading.Event()
    link._thread.call(lambda: link._thread._services.call_later(1.0, due.set))  # type: ignore[union-attr]
    link._thread.call(lambda: link._thread._session._lost(BrokerUnreachable("cut")))  # type: ignore[union-attr]
    is_up(recorder, 2)
    assert due.wait(30)
    wait_until(lambda: sockets_to(rabbit_server.port) == sockets + 2, what="the two of the second session")


def test_a_link_that_stands_is_not_too_slow_and_has_one_connection_to_publish_however_soon_it_published(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    sockets = sockets_to(rabbit_server.port)
    link, recorder = start_link(rabbit_url, connect_timeout_s=0.5)
    is_up(recorder)
    link.publish(Publication(b"news", kind="CACHE"))
    assert link._thread is not None
    late = threading.Event()
    link._thread.call(lambda: link._thread._services.call_later(4 * 0.5, late.set))  # type: ignore[union-attr]
    assert late.wait(30)
    assert recorder.downs == []
    assert sockets_to(rabbit_server.port) == sockets + 2
