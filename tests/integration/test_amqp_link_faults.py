"""A real RabbitMQ and a real network that die, stop or take nothing, and what a link makes of it."""

from __future__ import annotations

import socket
import threading

import pytest

from miros_cache_net import limits
from miros_cache_net.errors import (
    BrokerUnreachable,
)
from miros_cache_net.testing import RabbitServer, TcpForwarder, free_port, wait_until
from tests.descriptors import NewDescriptors
from tests.integration.link_contract import Confirms, news, talk
from tests.integration.rabbit_links import NewSockets, StartLink, is_up, publish_inside, told
from tests.threads import NewThreads

# --- a broker that dies, stops, or takes nothing ---------------------------------------------------------------


def test_broker_kill_settles_each_publication_once(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    link, recorder = start_link(rabbit_url)
    is_up(recorder)
    confirms = Confirms()
    killer = threading.Thread(target=rabbit_server.kill)
    sent = 0
    while not recorder.downs:
        if len(confirms.results) > sent - limits.PUBLISH_BACKLOG // 2:
            link.publish(news(link, b"x" * 2000, done=confirms.of(sent)))
            sent += 1
        if sent == 500 and killer.ident is None:
            killer.start()
    killer.join()
    rabbit_server.start()
    is_up(recorder, 2)
    link.publish(news(link, b"after", done=confirms.of(sent)))
    assert len(confirms.wait(sent + 1)) == sent + 1
    assert len({number for number, _ in confirms.results}) == sent + 1
    assert confirms.results[-1] == (sent, True)


def test_memory_alarm_blocks_publications_until_it_is_over(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    options = {"canary_interval_s": 0.1, "canary_timeout_s": 0.5}
    (link, at_link), (_, at_other) = start_link(rabbit_url, **options), start_link(rabbit_url, **options)
    is_up(at_link)
    is_up(at_other)
    talk(link, at_other, b"before")
    confirms = Confirms()
    rabbit_server.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        for number in range(10):
            link.publish(news(link, b"%d" % number, done=confirms.of(number)))
        publish_inside(rabbit_server, at_link.own_queue, "inside")
        wait_until(lambda: b"inside" in at_link.bodies, 20, "a consumer going on during the alarm")
        assert confirms.results == []
    finally:
        rabbit_server.ctl("set_vm_memory_high_watermark", "0.4")
    assert sorted(confirms.wait(10)) == [(number, True) for number in range(10)]
    wait_until(lambda: b"9" in at_other.bodies)
    assert at_link.order[0] == "up" and not at_link.downs and not at_other.downs


def test_silent_connection_is_noticed_by_its_heartbeat(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    threads = NewThreads()
    with TcpForwarder(rabbit_server.port) as forwarder:
        sockets = NewSockets(forwarder.port)
        link, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", heartbeat_s=1, connect_timeout_s=1.0)
        is_up(recorder)
        forwarder.freeze()
        told(recorder, BrokerUnreachable)
        forwarder.thaw()
        is_up(recorder, 2)
        forwarder.freeze()
        confirms = Confirms()
        link.publish(news(link, b"never confirmed", done=confirms.of(0)))
        link.stop()
        assert confirms.results == [(0, False)]
        assert sockets.count() == 0
        assert threads.names("miros-cache-link") == []


def test_broker_that_is_silent_after_login_is_told(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    channel_open_ok = b"\x00\x14\x00\x0b"
    with TcpForwarder(rabbit_server.port, freeze_on=channel_open_ok) as forwarder:
        # Without heartbeats nothing else would notice.
        _, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", heartbeat_s=0, connect_timeout_s=1.0)
        assert "does not answer" in str(told(recorder, BrokerUnreachable))


def test_cut_connection_is_followed_by_the_next_address(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    with TcpForwarder(rabbit_server.port) as forwarder:
        _, recorder = start_link(f"amqp://127.0.0.1:{forwarder.port}", rabbit_url)
        is_up(recorder)
        forwarder.refuse()
        is_up(recorder, 2)
    assert [type(error) for error in recorder.downs] == [BrokerUnreachable]
    assert str(rabbit_server.port) in recorder.ups[1].broker


def test_hanging_broker_is_left_for_the_next_address(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    with TcpForwarder(rabbit_server.port) as forwarder:
        hangs = f"amqp://127.0.0.1:{forwarder.port}"
        options = {"heartbeat_s": 0, "canary_interval_s": 0.1, "canary_timeout_s": 0.5}
        _, recorder = start_link(hangs, rabbit_url, **options)
        is_up(recorder)
        before = forwarder.accepted
        forwarder.freeze()
        is_up(recorder, 2)
        assert forwarder.accepted == before


def test_a_paused_broker_is_left_and_found_again(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    link, recorder = start_link(rabbit_url, heartbeat_s=1, connect_timeout_s=0.5)
    is_up(recorder)
    rabbit_server.pause()
    try:
        told(recorder, BrokerUnreachable)
    finally:
        rabbit_server.resume()
    is_up(recorder, 2)
    _, other = start_link(rabbit_url)
    is_up(other)
    talk(link, other, b"after")


# --- the link's own life --------------------------------------------------------------------------------------------


def test_link_has_two_connections_and_stop_ends_them(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    threads, descriptors = NewThreads(), NewDescriptors()
    sockets = NewSockets(rabbit_server.port)
    link, recorder = start_link(rabbit_url, serve=True)
    is_up(recorder)
    wait_until(lambda: sockets.count() == 2, what="both connections")
    link.stop()
    assert sockets.count() == 0
    assert (threads.names(), descriptors.links()) == ([], [])


def test_link_that_never_came_up_leaves_nothing(start_link: StartLink) -> None:
    threads, descriptors = NewThreads(), NewDescriptors()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for url in (f"amqp://127.0.0.1:{silent.getsockname()[1]}", f"amqp://127.0.0.1:{free_port()}"):
            link, _ = start_link(url)
            link.stop()
    wait_until(lambda: not descriptors.links())
    assert threads.names("miros-cache-link") == []


def test_fault_inside_pika_costs_only_the_session(
    rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (link, at_link), (_, at_other) = start_link(rabbit_url), start_link(rabbit_url)
    is_up(at_link)
    is_up(at_other)

    def planted() -> None:
        raise ZeroDivisionError("planted")

    assert link._thread is not None
    link._thread.services.add_callback_threadsafe(planted)
    is_up(at_link, 2)
    assert [type(error) for error in at_link.downs] == [BrokerUnreachable]
    assert "ZeroDivisionError" in caplog.text
    talk(link, at_other, b"after")
