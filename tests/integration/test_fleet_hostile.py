"""What somebody with access to the broker, with or without a key, can do to a node on real RabbitMQ: nothing much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import psutil
import pytest
from pika import frame, spec

from miros_cache_net.clock import SystemClock
from miros_cache_net.discovery.probe.handshake import Handshake
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import NotAuthentic
from miros_cache_net.fleet.place import request_queue_name, routing_key
from miros_cache_net.testing import Fleet, Host, RabbitServer, wait_until
from miros_cache_net.wire.envelope import Message, Origin, decode, encode
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing
from miros_cache_net.wire.kinds import (
    ANSWER,
    CACHE_FILE_READ,
    CHALLENGE_ANSWER,
    KINDS,
    STATUS,
    STATUS_REQUEST,
    UNCHANGED,
)
from tests.cli_command import run

MEBIBYTE = 1024 * 1024


class Attacker:
    """A plain AMQP client; `gate` is what a holder of the key has."""

    def __init__(self, hosts: Fleet, target: Host, url: str) -> None:
        self.target = target
        self.place = target.node.place
        self.ring = KeyRing.from_keys([hosts.key])
        self.gate = Gate(
            lambda: self.ring, scope=self.place.scope, document=self.place.document, node="mallory", host="mallory"
        )
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()
        self._answers = self.channel.queue_declare("", exclusive=True).method.queue

    def send(self, body: bytes, kind: str = "CACHE") -> None:
        self.channel.basic_publish(self.place.exchange, routing_key(self.place, kind), body)

    def seal_raw(self, text: bytes) -> bytes:
        """Whatever text, encrypted with the right key."""
        return self.ring.encrypt(text)

    def counted(self, *names: str) -> int:
        counters = self.target.status()["counters"]
        return sum(counters.get(f"refused_{name}", 0) for name in names)

    def ask(self, request: bytes, times: int = 1) -> None:
        """Of whoever can answer, with an address for the answer."""
        for _ in range(times):
            self._publish("", request_queue_name(self.place), request)

    def answered(self) -> list[str]:
        """The kinds of the answers so far, up to the one to a last question: the status."""
        self._publish(self.place.exchange, routing_key(self.place, STATUS_REQUEST), self.gate.seal(STATUS_REQUEST).body)
        kinds: list[str] = []
        while STATUS not in kinds:
            got = wait_until(lambda: (got := self.channel.basic_get(self._answers, True))[0] and got, what="an answer")
            kinds.append(decode(self.ring.decrypt(got[2])).kind)
        return kinds

    def _publish(self, exchange: str, key: str, body: bytes) -> None:
        self.channel.basic_publish(exchange, key, body, pika.BasicProperties(reply_to=self._answers))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def attacker(hosts: Fleet, rabbit_server: RabbitServer, caplog: pytest.LogCaptureFixture) -> Iterator[Attacker]:
    target = hosts.add("target")
    target.write({"safe": True})
    made = Attacker(hosts, target, rabbit_server.url)
    yield made
    made.close()
    assert target.read() == {"safe": True}
    hosts.add("beta")
    hosts.agree(on=lambda contents: contents == {"safe": True})
    # nothing of it was merely contained
    assert [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR] == []


def publishing(exchange: str, key: str, body: bytes) -> bytes:
    """One message as it goes over the wire: a client library is too slow to flood anybody."""
    method = frame.Method(1, spec.Basic.Publish(exchange=exchange, routing_key=key))
    header = frame.Header(1, len(body), spec.BasicProperties())
    return bytes(method.marshal() + header.marshal() + (frame.Body(1, body).marshal() if body else b""))


async def offer(port: int, messages: list[bytes], seconds: int) -> int:
    """10,000 messages a second for so long; how many they were."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    handshake = Handshake(reader, writer)
    await handshake.greet()
    await handshake.login("PLAIN", "\0guest\0guest")
    await handshake.open_vhost("/")
    await handshake.find_exchange("amq.topic")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for tick in range(100 * seconds):
        writer.writelines(messages[number % len(messages)] for number in range(tick * 100, tick * 100 + 100))
        await writer.drain()
        await asyncio.sleep(begun + tick / 100 - loop.time())
    await handshake.close()
    writer.close()
    await writer.wait_closed()
    return 10_000 * seconds


def test_garbage_flood_is_counted_and_told_once(
    attacker: Attacker, rabbit_server: RabbitServer, caplog: pytest.LogCaptureFixture
) -> None:
    place = attacker.place
    bodies = [b"", b"x" * 2048, pickle.dumps(("10.0.0.1", "x")), b"gAAAAA" + b"A" * 4000]
    routes = [(place.exchange, routing_key(place, "CACHE")), ("", request_queue_name(place))]
    garbage = [publishing(*route, body) for route in routes for body in bodies]
    process = psutil.Process()
    before = most = process.memory_info().rss
    flood: list[int] = []
    thread = threading.Thread(target=lambda: flood.append(asyncio.run(offer(rabbit_server.port, garbage, 3))))
    thread.start()
    while thread.is_alive():
        thread.join(0.05)
        most = max(most, process.memory_info().rss)
    # the node's queue is bounded: what did not fit was dropped by the broker, unread
    wait_until(lambda: queued(rabbit_server) == 0, timeout_s=30, what="the queues to be empty")
    assert 1_000 <= attacker.counted("not_authentic") <= flood[0]
    assert most - before < 20 * MEBIBYTE
    assert sum("refused a message" in record.getMessage() for record in caplog.records) == 1


def queued(server: RabbitServer) -> int:
    listed = server.ctl("list_queues", "--silent", "messages")
    return sum(int(line) for line in listed.split() if line.isdigit())


def test_a_thousand_unknown_kinds_never_become_signals(attacker: Attacker) -> None:
    from miros.event import signals

    before = len(signals)
    for number in range(1_000):
        fields = {
            "v": 2,
            "answers": "",
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


#: Stands for the body in a message that is in order but for that.
HERE = b'"here"'


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 10_000,
        b'"\\ud800"',
        b'"\xff\xfe"',
        b'{"a":1,"a":2}',
        b"[" * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
    ],
)
def test_ambiguous_json_is_refused_under_the_right_key(attacker: Attacker, body: bytes) -> None:
    message = attacker.ring.decrypt(attacker.gate.seal("CACHE", "here").body)
    attacker.send(attacker.seal_raw(message.replace(HERE, body)))
    wait_until(lambda: attacker.counted("malformed") == 1, what="the refusal")


def test_duplicate_keys_are_refused_under_the_right_key(attacker: Attacker) -> None:
    message = attacker.ring.decrypt(attacker.gate.seal("CACHE", {}).body)
    attacker.send(attacker.seal_raw(b'{"v":2,' + message[1:]))
    wait_until(lambda: attacker.counted("malformed") == 1, what="the refusal")


def test_nonsense_documents_change_nothing(attacker: Attacker) -> None:
    bodies: list[Any] = [None, 1, [], {"a": 1}, {"_miros_cache_net": {"format": 99}}, {"a": 1, "_miros_cache_net": []}]

    def received() -> int:
        return int(attacker.target.status()["counters"].get("received_CACHE", 0))

    for number, body in enumerate(bodies, 1):
        attacker.send(attacker.gate.seal("CACHE", body).body)
        wait_until(lambda number=number: received() == number, what="the message")
    counters = attacker.target.status()["counters"]
    assert counters["reported_wire"] == 1  # said once about the host that sends such things
    assert not any(name.startswith("refused_") for name in counters)


class MovableClock(SystemClock):
    ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


class Eavesdropper:
    """Has heard every message of one fleet, wherever it went, and repeats it.

    `heard`: kind, exchange, routing key and body of each; `answers`: the queue where answers to it are wanted.
    """

    def __init__(self, channel: Any, ring: KeyRing) -> None:
        self._channel, self._ring = channel, ring
        self._queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(self._queue, "amq.rabbitmq.trace", "publish.#")
        self.answers = channel.queue_declare("", exclusive=True).method.queue
        self.heard: list[tuple[str, str, str, bytes]] = []
        self._answered: Counter[str] = Counter()

    def listen(self) -> set[str]:
        """The kinds heard so far."""
        while (got := self._channel.basic_get(self._queue, auto_ack=True))[0] is not None:
            with contextlib.suppress(NotAuthentic):  # a canary has no body
                kind = decode(self._ring.decrypt(got[2])).kind
                exchange, (key,) = got[1].headers["exchange_name"], got[1].headers["routing_keys"]
                if key != self.answers:
                    self.heard.append((kind, exchange, key, got[2]))
        return {kind for kind, *_ in self.heard}

    def repeat(self, times: int, hosts: list[Host], queues: list[str]) -> None:
        """Everything, where it went and into `queues`; done when `hosts` have seen it all."""
        properties = pika.BasicProperties(reply_to=self.answers)
        for _, exchange, key, body in self.heard:
            counts = [count_of(host) for host in hosts]
            for route in [(exchange, key), *(("", queue) for queue in queues)]:
                for _ in range(times):
                    self._channel.basic_publish(*route, body, properties)
            place = hosts[0].node.place
            self._channel.basic_publish(place.exchange, routing_key(place, "CACHE"), b"the last one")
            for host, count in zip(hosts, counts, strict=True):
                wait_until(lambda host=host, count=count: count_of(host) > count, what="the replay to be taken")

    def answered(self) -> Counter[str]:
        """How many answers of each kind have come."""
        while (got := self._channel.basic_get(self.answers, auto_ack=True))[0] is not None:
            self._answered[decode(self._ring.decrypt(got[2])).kind] += 1
        return self._answered


def count_of(host: Host) -> int:
    return int(host.status()["counters"].get("refused_not_authentic", 0))


def test_replay_of_everything_changes_nothing(hosts: Fleet, rabbit_server: RabbitServer) -> None:
    clock = MovableClock()
    rabbit_server.ctl("trace_on")
    alpha = hosts.add("alpha", clock=clock, digest_interval_s=0.3)
    attacker = Attacker(hosts, alpha, rabbit_server.url)
    spy = Eavesdropper(attacker.channel, attacker.ring)
    alpha.write({"n": 1})
    beta = hosts.add("beta", clock=clock, digest_interval_s=0.3)
    hosts.agree(on=lambda contents: contents == {"n": 1})
    beta.write({"n": 2})
    hosts.agree(on=lambda contents: contents == {"n": 2})
    beta.stop()
    beta = hosts.add("beta", clock=clock, digest_interval_s=0.3)
    alpha.node.fleet_status()
    theirs = Document.unwritten({}).written({"n": 0}, Stamp(clock.wall_ms() - 60_000, 0, "mallory"), clock.wall_ms())
    of_commands = {"CACHE_FILE_WRITE": theirs.to_json(), "challenge": {"address": "", "nonce": ""}, "trace_request": {}}
    for kind, body in of_commands.items():
        properties = pika.BasicProperties(reply_to=spy.answers)
        key = routing_key(attacker.place, kind)
        attacker.channel.basic_publish(attacker.place.exchange, key, attacker.gate.seal(kind, body).body, properties)
    # answers to the attacker are not heard, and no host here takes part in the mesh
    unheard = {"challenge_answer", "trace", "mesh"}
    wait_until(lambda: spy.listen() >= set(KINDS) - unheard, what="every kind of message to be heard")
    rabbit_server.ctl("trace_off")
    # a watch is answered for as long as it lasts
    due = Counter({CHALLENGE_ANSWER: 2, "trace": 10_000})
    wait_until(lambda: spy.answered()[CHALLENGE_ANSWER] == 2, what="the answers to the challenge")
    state = alpha.cache.read().version

    spy.repeat(100, [alpha, beta], [])
    asked = Counter(kind for kind, *_ in spy.heard)
    # one that expired before the other host had it is new to that host
    due[ANSWER] = due[UNCHANGED] = asked[CACHE_FILE_READ]
    assert spy.answered() <= due
    assert [host.status()["counters"]["trace_watches"] for host in (alpha, beta)] == [1, 1]
    clock.ahead_ms = 3_600_000
    spy.repeat(100, [alpha, beta], [])
    assert spy.answered() <= due
    beta.stop()
    beta = hosts.add("beta", clock=clock)
    spy.repeat(100, [alpha, beta], own_queues(rabbit_server))
    # of the host that is new, each once
    due[STATUS] = asked[STATUS_REQUEST]
    due[CHALLENGE_ANSWER] += 1
    due[ANSWER] = due[UNCHANGED] = 2 * asked[CACHE_FILE_READ]
    wait_until(lambda: spy.answered()[STATUS] == due[STATUS], what="the status of the host that is new")
    assert {host.cache.read().version for host in (alpha, beta)} == {state}
    alpha.update({"after": True})
    hosts.agree(on=lambda contents: contents == {"n": 2, "after": True})
    assert spy.answered() <= due
    attacker.close()


def test_a_replayed_request_is_answered_once(hosts: Fleet, rabbit_server: RabbitServer) -> None:
    target = hosts.add("target")
    attacker = Attacker(hosts, target, rabbit_server.url)
    attacker.ask(attacker.gate.seal("CACHE_FILE_READ").body, times=100)
    wait_until(lambda: attacker.counted("replayed") == 99, what="the refusals")
    assert attacker.answered() == [ANSWER, STATUS]
    attacker.close()


def test_a_request_of_any_age_is_answered_once(hosts: Fleet, rabbit_server: RabbitServer) -> None:
    target = hosts.add("target")
    attacker = Attacker(hosts, target, rabbit_server.url)
    old = Message(
        "CACHE_FILE_READ",
        attacker.place.scope,
        attacker.place.document,
        "an-hour-ago",
        Origin("mallory", "mallory", "b", 1),
        target.status()["clock_ms"] - 3_600_000,
    )
    attacker.ask(attacker.seal_raw(encode(old)), times=3)
    wait_until(lambda: attacker.counted("replayed") == 2, what="the refusals")
    assert attacker.answered() == [ANSWER, STATUS]
    attacker.close()


def own_queues(server: RabbitServer) -> list[str]:
    listed = server.ctl("list_queues", "--silent", "name", "consumers").split("\n")
    return [name for name, consumers in map(str.split, filter(None, listed)) if consumers == "1" and "amq.gen" in name]


def test_replayed_answers_and_statuses_answer_nothing(
    hosts: Fleet, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    rabbit_server.ctl("trace_on")
    alpha = hosts.add("alpha")
    attacker = Attacker(hosts, alpha, rabbit_server.url)
    spy = Eavesdropper(attacker.channel, attacker.ring)
    alpha.write({"n": 1})
    beta = hosts.add("beta")
    hosts.agree(alpha, beta, on=lambda contents: contents == {"n": 1})
    beta.node.fleet_status()
    wait_until(lambda: spy.listen() >= {ANSWER, STATUS}, what="an answer and a status")
    captured = [(key, body) for kind, _, key, body in spy.heard if kind in (ANSWER, STATUS)]
    alpha.stop()
    beta.write({"n": 2})
    spy.heard.clear()
    queues, given = own_queues(rabbit_server), list[Any]()
    asking = threading.Thread(target=lambda: given.extend((beta.node.read_fleet(2.0), beta.node.fleet_status(2.0))))
    asking.start()
    for request in (CACHE_FILE_READ, STATUS_REQUEST):
        wait_until(lambda request=request: request in spy.listen(), what="the question")
        for _ in range(12):
            for queue in queues:
                for _, body in captured:
                    attacker.channel.basic_publish("", queue, body)
    asking.join()
    rabbit_server.ctl("trace_off")
    document, statuses = given
    assert document is None
    assert [status["node"] for status in statuses] == [beta.node.status()["node"]]
    assert beta.read() == {"n": 2}
    attacker.close()


def test_halves_beyond_a_cap_make_no_chatter(hosts: Fleet, rabbit_server: RabbitServer) -> None:
    interval: dict[str, Any] = {"digest_interval_s": 1.0}
    alpha, beta = hosts.add("alpha", **interval), hosts.add("beta", **interval)
    alpha.write({})
    hosts.agree(alpha, beta)
    beta.stop()
    for host, name in ((alpha, "a"), (beta, "b")):
        host.update({f"{name}{number}": "x" * MEBIBYTE for number in range(5)})

    def apart(*them: Host) -> bool:
        statuses = [host.node.status() for host in them]
        return all("exceed a cap together" in status["trouble"] and not status["connected"] for status in statuses)

    beta = hosts.add("beta", wait=False, **interval)
    wait_until(lambda: apart(alpha, beta), timeout_s=60, what="both to say so")
    gamma = hosts.add("gamma", wait=False, **interval)
    wait_until(lambda: apart(alpha, beta, gamma), timeout_s=60, what="the third to say so")
    rabbit_server.ctl("trace_on")
    attacker = Attacker(hosts, alpha, rabbit_server.url)
    spy = Eavesdropper(attacker.channel, attacker.ring)
    # each host says one about once in the interval
    wait_until(lambda: spy.listen() and len(spy.heard) >= 20, timeout_s=60, what="twenty digests")
    rabbit_server.ctl("trace_off")
    assert sum(len(body) for *_, body in spy.heard) < 30_000
    gamma.write({"mended": True})
    hosts.agree(alpha, beta, gamma, on=lambda contents: contents == {"mended": True}, timeout_s=60)
    wait_until(lambda: all(host.node.connected for host in (alpha, beta, gamma)), what="all to be well")
    attacker.close()


def test_flood_leaves_room_for_the_fleets_writes(hosts: Fleet, rabbit_server: RabbitServer) -> None:
    alpha, beta = (hosts.add(name, digest_interval_s=1.0) for name in ("alpha", "beta"))
    garbage = [publishing(alpha.node.place.exchange, routing_key(alpha.node.place, "CACHE"), b"x" * 512)]
    flood = threading.Thread(target=lambda: asyncio.run(offer(rabbit_server.port, garbage, 1)))
    flood.start()
    for number in range(10):
        alpha.update({f"n{number}": number})
        flood.join(0.05)
    flood.join()
    alpha.update({"after": True})
    hosts.agree(on=lambda contents: len(contents) == 11, timeout_s=60)
    for counters in (host.status()["counters"] for host in (alpha, beta)):
        # every write found room at once, and no link was given up
        assert [counters.get(name, 0) for name in ("links_made", "links_failed", "sendings_lost")] == [1, 0, 0]


def test_host_with_wrong_clock_is_named_and_serves(hosts: Fleet, rabbit_server: RabbitServer, tmp_path: Path) -> None:
    beta = hosts.add("beta")
    beta.write({"a": 1})
    slow = hosts.add("slow", start=False)
    slow.skew(-3600)
    slow.start()
    slow.wait_joined()
    hosts.agree(on=lambda contents: contents == {"a": 1})
    environment = {"MIROS_CACHE_AMQP_URL": rabbit_server.url, "MIROS_CACHE_KEYS": hosts.key}
    environment["MIROS_CACHE_EXCHANGE"] = beta.settings.exchange
    shown = run(tmp_path / "beta", "status", "--file", "cache.json", **environment).stdout.splitlines()
    (row,) = [line for line in shown if line.startswith("slow") and ": " not in line and "counted" not in line]
    assert re.search(" -36[0-9][0-9] s ", row)
    assert any(
        re.match("slow.*: beta.* has a clock that is 36[0-9][0-9] s ahead of this one's", line) for line in shown
    )
    assert any(line.startswith("slow") and "reported clock 1" in line for line in shown)
