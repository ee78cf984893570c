"""A message that RabbitMQ refuses is that message's fate: no link is lost for it, and it is said once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import closing

import pika
import pytest

from miros_cache_net.amqp.link import Publication
from miros_cache_net.errors import MessageRefused
from miros_cache_net.fleet.place import Place, routing_key
from miros_cache_net.testing import Fleet, Host, RabbitServer, wait_until
from tests.integration.link_contract import Confirms
from tests.integration.rabbit_links import StartLink, is_up

MOST_BYTES = 65_536


@pytest.fixture
def small_messages(rabbit_server: RabbitServer) -> Iterator[None]:
    """Channels that are opened now take no larger ones."""
    default = rabbit_server.ctl("eval", "rabbit_misc:get_env(rabbit, max_message_size, 134217728).")
    _allow_bytes(rabbit_server, MOST_BYTES)
    yield
    _allow_bytes(rabbit_server, int(default))


def _allow_bytes(server: RabbitServer, most: int) -> None:
    """Where RabbitMQ up to 3 looks, and where RabbitMQ 4 does."""
    server.ctl(
        "eval", f"application:set_env(rabbit, max_message_size, {most}), persistent_term:put(max_message_size, {most})."
    )


@contextlib.contextmanager
def may_send(server: RabbitServer, place: Place, kinds: str) -> Iterator[None]:
    server.ctl("set_topic_permissions", "guest", place.exchange, rf"\.({kinds})$", ".*")
    try:
        yield
    finally:
        server.ctl("clear_topic_permissions", "guest", place.exchange)


def test_too_long_message_takes_no_link_along(
    small_messages: None, rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    (link, recorder), (_, at_other) = start_link(rabbit_url), start_link(rabbit_url)
    is_up(recorder)
    is_up(at_other)
    confirms = Confirms()
    refused: list[MessageRefused] = []
    key = routing_key(place, "CACHE")
    for number in range(60):
        body = b"x" * (MOST_BYTES + number) if number % 20 == 10 else b"%d" % number
        link.publish(Publication(body, place.exchange, key, done=confirms.of(number), refused=refused.append))
    confirms.wait(60)
    wait_until(lambda: {b"%d" % number for number in range(60) if number % 20 != 10} <= set(at_other.bodies))
    assert {number for number, taken in confirms.results if not taken} == {10, 30, 50}
    assert len(refused) == 3 and str(MOST_BYTES) in str(refused[0])
    assert recorder.order.count("up") == 1 and not recorder.downs


def test_one_that_rights_forbid_takes_no_link_along(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    link, recorder = start_link(rabbit_url, canary_interval_s=0.2, canary_timeout_s=5.0)
    is_up(recorder)
    confirms = Confirms()
    refused: list[MessageRefused] = []
    with may_send(rabbit_server, place, "DIGEST"):
        for number, kind in enumerate(["CACHE", "DIGEST", "CACHE"]):
            link.publish(
                Publication(
                    b"%d" % number,
                    place.exchange,
                    routing_key(place, kind),
                    done=confirms.of(number),
                    refused=refused.append,
                )
            )
            confirms.wait(number + 1)
    assert confirms.results == [(0, False), (1, True), (2, False)]
    assert len(refused) == 2 and "set_topic_permissions" in str(refused[0]) and "CACHE" in str(refused[0])
    link.publish(Publication(b"allowed", place.exchange, routing_key(place, "CACHE"), done=confirms.of(3)))
    assert confirms.wait(4)[-1] == (3, True)
    assert not recorder.downs


@pytest.fixture
def full_queue(rabbit_url: str, place: Place) -> Iterator[Callable[[str], None]]:
    """Somebody's queue behind an exchange, which rejects what comes once it holds one message."""
    with closing(pika.BlockingConnection(pika.URLParameters(rabbit_url))) as connection:
        channel = connection.channel()

        def bind(exchange: str) -> None:
            arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
            name = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
            channel.queue_bind(name, exchange, "#")

        yield bind


def test_message_that_full_queue_rejects_costs_no_link(
    full_queue: Callable[[str], None], rabbit_url: str, start_link: StartLink, place: Place
) -> None:
    (link, recorder), (_, at_other) = start_link(rabbit_url), start_link(rabbit_url)
    is_up(recorder)
    is_up(at_other)
    full_queue(place.exchange)
    confirms = Confirms()
    refused: list[MessageRefused] = []
    for number in range(3):
        body, key = b"%d" % number, routing_key(place, "CACHE")
        link.publish(Publication(body, place.exchange, key, done=confirms.of(number), refused=refused.append))
        confirms.wait(number + 1)
    wait_until(lambda: {b"0", b"1", b"2"} <= set(at_other.bodies), what="the others to hear all the same")
    assert confirms.results == [(0, True), (1, False), (2, False)]
    assert len(refused) == 2 and "reject-publish" in str(refused[0]) and place.exchange in str(refused[0])
    assert not recorder.downs


def test_a_fleet_goes_on_beside_a_full_queue(full_queue: Callable[[str], None], hosts: Fleet) -> None:
    one, other = hosts.add("one", digest_interval_s=1.0), hosts.add("other", digest_interval_s=1.0)
    full_queue(one.node.place.exchange)
    for number in range(3):
        one.write({"a": number})
        hosts.agree(one, other, on=lambda contents, number=number: contents == {"a": number})
    wait_until(lambda: "reject-publish" in one.node.status()["trouble"], what="the trouble to be told")
    assert counter(one, "reported_broker") == 1
    assert [counter(host, "links_failed") for host in (one, other)] == [0, 0]


def counter(host: Host, name: str) -> int:
    return int(host.node.status()["counters"].get(name, 0))


def test_too_long_document_is_held_back_until_changed(small_messages: None, hosts: Fleet) -> None:
    large, other = hosts.add("large", digest_interval_s=1.0), hosts.add("other", digest_interval_s=1.0)
    large.write({"a": 1})
    hosts.agree(large, other)
    large.write({"much": "x" * 100_000})
    wait_until(lambda: str(MOST_BYTES) in large.node.status()["trouble"], what="the limit to be named")
    joiner = hosts.add("joiner", digest_interval_s=1.0)
    joiner.update({"b": 2})
    wait_until(lambda: "b" in other.read() and "b" in large.read(), what="the others to go on")
    assert counter(large, "reported_broker") == 1
    large.write({"little": 1})
    hosts.agree(large, other, joiner)
    assert joiner.read() == {"little": 1}
    wait_until(lambda: not large.node.status()["trouble"], what="the trouble to be over")
    assert [counter(host, "links_failed") for host in (large, other, joiner)] == [0, 0, 0]
    assert [counter(host, "links_made") for host in (large, other, joiner)] == [1, 1, 1]
