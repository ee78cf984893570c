"""A link consumes, and asks, before it has its second connection; that is made when something is to be published."""

from __future__ import annotations

import queue
import threading

import psutil
import pytest

from miros_cache_net.amqp import session
from miros_cache_net.amqp.link import Publication
from miros_cache_net.testing import RabbitServer, wait_until
from tests.integration.rabbit_links import StartLink, is_up, sockets_to


def test_a_link_that_is_stopped_before_it_has_published_leaves_nothing(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PUBLISHER_AFTER_S", 60.0)
    sockets, files = sockets_to(rabbit_server.port), psutil.Process().num_fds()
    link, recorder = start_link(rabbit_url, serve=True)
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


def test_a_link_whose_publishing_connection_is_refused_says_so_and_does_not_hurry(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    """The broker grants this user one connection: one that consumes is made, one that publishes is not."""
    user = "one-connection"
    url = rabbit_server.add_user(user, "secret")
    rabbit_server.ctl("set_user_limits", user, '{"max-connections": 1}')
    link, recorder = start_link(url)
    recorder.wait(downs=1)
    rabbit_server.ctl("clear_user_limits", user, "max-connections")
    confirmed: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def published() -> bool:
        link.publish(Publication(b"news", kind="CACHE", done=confirmed.put))
        return confirmed.get(timeout=30)

    wait_until(published, timeout_s=30, what="a confirm")
    assert len(recorder.ups) == len(recorder.downs) + 1


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
    link._thread.call(lambda: [each.abort() for each in link._thread._session._halves])  # type: ignore[union-attr]
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
