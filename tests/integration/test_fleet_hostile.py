"""What somebody with access to the broker, with or without a key, can do to a node on real RabbitMQ: nothing much."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import psutil
import pytest

from miros_cache_net.amqp.topology import request_queue_name, routing_key
from miros_cache_net.clock import SystemClock
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.envelope import Message, Origin, encode
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing
from tests.hosts import Host, Hosts, agree, fleet

MEBIBYTE = 1024 * 1024


@pytest.fixture
def hosts(tmp_path: Path, rabbit_server: RabbitServer) -> Iterator[Hosts]:
    with fleet(tmp_path, rabbit_server.url) as made:
        yield made


class Attacker:
    """A plain AMQP client; `gate` is what a holder of the key has."""

    def __init__(self, hosts: Hosts, target: Host, url: str) -> None:
        self.target = target
        self.place = target.node.place
        self.ring = KeyRing.from_keys([hosts.key])
        self.gate = Gate(
            lambda: self.ring, scope=self.place.scope, document=self.place.document, node="mallory", host="mallory"
        )
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()

    def send(self, body: bytes, kind: str = "CACHE") -> None:
        self.channel.basic_publish(self.place.exchange, routing_key(self.place, kind), body)

    def seal_raw(self, text: bytes) -> bytes:
        """Whatever text, encrypted with the right key."""
        return self.ring.encrypt(text)

    def counted(self, *names: str) -> int:
        counters = self.target.node.status()["counters"]
        return sum(counters.get(f"refused_{name}", 0) for name in names)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def attacker(hosts: Hosts, rabbit_server: RabbitServer) -> Iterator[Attacker]:
    target = hosts.joined("target")
    target.cache.write({"safe": True})
    made = Attacker(hosts, target, rabbit_server.url)
    yield made
    made.close()
    assert target.contents == {"safe": True}
    beta = hosts.joined("beta")
    agree(target, beta, on=lambda contents: contents == {"safe": True})


def test_ten_thousand_garbage_messages_are_counted_and_nothing_is_requeued(
    attacker: Attacker, rabbit_server: RabbitServer
) -> None:
    before = psutil.Process().memory_info().rss
    bodies = [b"", b"x" * 2048, pickle.dumps(("10.0.0.1", "x")), b"gAAAAA" + b"A" * 200]
    for number in range(10_000):
        attacker.send(bodies[number % len(bodies)])
    # the node's queue is bounded: what did not fit was dropped by the broker, unread
    wait_until(lambda: attacker.counted("not_authentic") >= 1_000, timeout_s=30, what="the garbage to be counted")
    wait_until(lambda: queued(rabbit_server) == 0, timeout_s=30, what="the queues to be empty")
    assert psutil.Process().memory_info().rss - before < 100 * MEBIBYTE


def queued(server: RabbitServer) -> int:
    listed = server.ctl("list_queues", "--silent", "messages")
    return sum(int(line) for line in listed.split() if line.isdigit())


def test_a_thousand_unknown_kinds_never_become_signals(attacker: Attacker) -> None:
    from miros.event import signals

    before = len(signals)
    for number in range(1_000):
        fields = {
            "v": 1,
            "kind": f"EVIL_{number}",
            "scope": attacker.place.scope,
            "document": attacker.place.document,
            "id": str(number),
            "node": "mallory",
            "host": "mallory",
            "boot": "b",
            "seq": number,
            "sent_ms": 1,
            "body": None,
        }
        attacker.send(attacker.seal_raw(json.dumps(fields).encode()))
    wait_until(lambda: attacker.counted("malformed") == 1_000, timeout_s=30, what="the refusals")
    assert len(signals) == before


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"v":1,"v":1}',
        b'{"v":NaN}',
        b'{"v":1e999}',
        b'{"v":"\\ud800"}',
        b"\xff\xfe",
        b"{" + b'"a":{' * 70 + b"}" * 71,
        b"9" * 10_000,
    ],
)
def test_json_that_parsers_disagree_on_is_refused_even_under_the_right_key(attacker: Attacker, text: bytes) -> None:
    attacker.send(attacker.seal_raw(text))
    wait_until(lambda: attacker.counted("malformed") == 1, what="the refusal")


def test_documents_of_another_format_and_nonsense_bodies_change_nothing(attacker: Attacker) -> None:
    bodies: list[Any] = [None, 1, [], {"a": 1}, {"_miros_cache_net": {"format": 99}}, {"a": 1, "_miros_cache_net": []}]
    for body in bodies:
        attacker.send(attacker.gate.seal("CACHE", body).body)
    received = attacker.target.node.status
    wait_until(lambda: received()["counters"].get("received_CACHE", 0) >= 1, what="the messages")


def test_a_message_repeated_a_hundred_times_does_what_one_does(hosts: Hosts, rabbit_server: RabbitServer) -> None:
    alpha, beta = hosts.joined("alpha"), hosts.joined("beta")
    tap = pika.BlockingConnection(pika.URLParameters(rabbit_server.url))
    channel = tap.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, alpha.node.place.exchange, "cache.#")
    alpha.cache.write({"n": 1})
    agree(alpha, beta, on=lambda contents: contents == {"n": 1})
    method, _, body = wait_until(
        lambda: (got := channel.basic_get(queue, auto_ack=True))[0] and got, what="the message"
    )
    beta.cache.write({"n": 2})
    agree(alpha, beta, on=lambda contents: contents == {"n": 2})
    version = beta.cache.read().version
    for _ in range(100):
        channel.basic_publish(alpha.node.place.exchange, method.routing_key, body)
    tap.close()
    beta.cache.update({"after": True})
    agree(alpha, beta, on=lambda contents: contents == {"n": 2, "after": True})
    assert beta.cache.read().version != version


def test_a_replayed_request_is_answered_once(hosts: Hosts, rabbit_server: RabbitServer) -> None:
    target = hosts.joined("target")
    attacker = Attacker(hosts, target, rabbit_server.url)
    answers = attacker.channel.queue_declare("", exclusive=True).method.queue
    request = attacker.gate.seal("CACHE_FILE_READ").body
    for _ in range(100):
        attacker.channel.basic_publish(
            "", request_queue_name(attacker.place), request, pika.BasicProperties(reply_to=answers)
        )
    wait_until(lambda: attacker.counted("replayed") == 99, what="the refusals")
    count = attacker.channel.queue_declare(answers, passive=True).method.message_count
    attacker.close()
    assert count == 1


def test_an_old_request_is_refused(hosts: Hosts, rabbit_server: RabbitServer) -> None:
    target = hosts.joined("target")
    attacker = Attacker(hosts, target, rabbit_server.url)
    old = Message(
        "CACHE_FILE_READ",
        attacker.place.scope,
        attacker.place.document,
        "an-hour-ago",
        Origin("mallory", "mallory", "b", 1),
        target.node.status()["clock_ms"] - 3_600_000,
    )
    attacker.channel.basic_publish("", request_queue_name(attacker.place), attacker.seal_raw(encode(old)))
    wait_until(lambda: attacker.counted("replayed") == 1, what="the refusal")
    attacker.close()


def test_a_flood_leaves_room_for_the_writes_of_the_fleet(hosts: Hosts, rabbit_server: RabbitServer) -> None:
    alpha, beta = (hosts.joined(name, digest_interval_s=1.0) for name in ("alpha", "beta"))
    ended = threading.Event()

    def flood() -> None:
        attacker = Attacker(hosts, alpha, rabbit_server.url)
        while not ended.is_set():
            for _ in range(200):
                attacker.send(b"x" * 512)
            ended.wait(0.02)
        attacker.close()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for number in range(10):
            alpha.cache.update({f"n{number}": number})
    finally:
        ended.set()
        thread.join()
    agree(alpha, beta, on=lambda contents: len(contents) == 10, timeout_s=60)


def test_a_host_whose_clock_is_wrong_stops_answering_for_the_others(hosts: Hosts, rabbit_server: RabbitServer) -> None:
    class HourBehind(SystemClock):
        def wall_ms(self) -> int:
            return super().wall_ms() - 3_600_000

    slow = hosts.start("slow", clock=HourBehind())
    wait_until(lambda: slow.node.connected, what="the slow host to be there")
    beta = hosts.joined("beta")
    beta.cache.write({"a": 1})
    queue = request_queue_name(beta.node.place)

    def consumers() -> int:
        listed = rabbit_server.ctl("list_queues", "--silent", "name", "consumers")
        return next((int(line.split()[-1]) for line in listed.splitlines() if line.startswith(queue)), 0)

    with FleetClient(hosts.settings("beta")) as client:
        wait_until(lambda: client.read() and consumers() == 1, timeout_s=60, what="the slow host to step back")
