"""Probes against real sockets: what each kind of server turns out to be, and what it costs."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing

import pika
import pytest

from miros_cache_net import limits
from miros_cache_net.discovery.probe.handshake import Greeting
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, ProbeTarget, Verdict
from miros_cache_net.discovery.probe.resolve import Address, LookUp
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, free_port, wait_until
from tests.descriptors import NewDescriptors, descriptors_left
from tests.fake_servers import PROTOCOL_HEADER, FakeServer, Visit, banner, full_backlog, generous_rabbit, greeter, mute
from tests.threads import NewThreads

PASSWORD = "s3cr3t-that-nobody-may-see"
#: Far above what any answer takes: a test that needs it all has failed.
AMPLE_S = 30.0
#: For servers that never answer: what a probe of them costs.
SHORT_S = 0.3
EXCHANGE = "amq.topic"
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"),)


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


def target(port: int, host: str = "127.0.0.1", exchange: str = EXCHANGE, **options: object) -> ProbeTarget:
    fields: dict[str, object] = {"timeout_s": AMPLE_S, **options}
    url = f"{'amqps' if fields.pop('tls', False) else 'amqp'}://harvest:{PASSWORD}@{host}:{port}"
    return ProbeTarget(BrokerAddress.parse(url), exchange, **fields)  # type: ignore[arg-type]


def target_of(url: str, exchange: str = EXCHANGE) -> ProbeTarget:
    return ProbeTarget(BrokerAddress.parse(url), exchange, timeout_s=AMPLE_S)


def ask(prober: Prober, question: ProbeTarget) -> ProbeResult:
    answer: Future[ProbeResult] = Future()
    prober.probe(question, answer.set_result)
    return answer.result(AMPLE_S * 2)


# --- no connection --------------------------------------------------------------------------------


def test_a_port_that_nobody_listens_on_is_refused(prober: Prober) -> None:
    result = ask(prober, target(free_port()))
    assert result.verdict is Verdict.REFUSED
    assert result.round_trip_s is None
    assert result.address == "127.0.0.1"


def test_an_address_without_a_route_is_named_so(prober: Prober) -> None:
    assert ask(prober, target(5672, host="255.255.255.255")).verdict is Verdict.NO_ROUTE


@pytest.mark.parametrize("count", range(3))
def test_probe_without_descriptors_says_so_and_works_later(prober: Prober, count: int) -> None:
    with descriptors_left(count):
        refused = ask(prober, target(1))
        assert refused.verdict is Verdict.NO_ROUTE and "ulimit" in refused.detail
        for descriptor in [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]:
            os.close(descriptor)
    assert ask(prober, target(1)).verdict is Verdict.REFUSED


def test_a_name_without_an_address_is_unresolvable(prober: Prober) -> None:
    for name in ("no-such-host.invalid", "two..dots"):
        assert ask(prober, target(5672, host=name)).verdict is Verdict.UNRESOLVABLE


def test_a_port_whose_queue_is_full_is_silent(prober: Prober) -> None:
    with full_backlog("127.0.0.2") as port:
        result = ask(prober, target(port, host="127.0.0.2", timeout_s=SHORT_S))
    assert result.verdict is Verdict.SILENT
    assert result.round_trip_s is None


def test_probe_does_not_take_itself_for_a_server(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the kernel does by chance once in a while on loopback, done on purpose: bind, then dial oneself.
    port = free_port()
    ordinary = socket.socket

    class Narcissus(ordinary):  # type: ignore[misc,valid-type]
        def setblocking(self, flag: bool) -> None:
            super().setblocking(flag)
            if self.type == socket.SOCK_STREAM and not self.getsockname()[1]:
                self.bind(("127.0.0.1", port))

    question = target(port)
    answer: Future[ProbeResult] = Future()
    ask(prober, target(free_port()))  # the loop's own sockets are made before
    monkeypatch.setattr("miros_cache_net.discovery.probe.dial.socket.socket", Narcissus)
    prober.probe(question, answer.set_result)
    assert answer.result(AMPLE_S).verdict is Verdict.REFUSED


def test_name_is_tried_at_each_of_its_addresses() -> None:
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[Address]:
        asked.append(host)
        return [(socket.AF_INET, (each, port)) for each in ("127.0.0.3", "127.0.0.4")]

    with FakeServer(generous_rabbit, host="127.0.0.4") as server, closing(Prober(look_up=look_up)) as prober:
        result = ask(prober, target(server.port, host="peer.example"))
    assert asked == ["peer.example"]
    assert (result.verdict, result.address) == (Verdict.OK, "127.0.0.4")


def hang_up(_visit: Visit) -> None: ...


def speak_http(visit: Visit) -> None:
    visit.hear(len(PROTOCOL_HEADER))
    visit.say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def at_each(*hosts: str) -> LookUp:
    def look_up(_host: str, port: int) -> list[Address]:
        return [(socket.AF_INET, (each, port)) for each in hosts]

    return look_up


@pytest.mark.parametrize("talk", [hang_up, mute, speak_http, greeter("Qpid")])
def test_name_without_rabbit_is_tried_at_next_address(talk: Callable[[Visit], None]) -> None:
    with (
        FakeServer(talk, host="127.0.0.3") as other,
        FakeServer(generous_rabbit, host="127.0.0.4", port=other.port),
        closing(Prober(look_up=at_each("127.0.0.3", "127.0.0.4"))) as prober,
    ):
        result = ask(prober, target(other.port, host="peer.example", timeout_s=6.0))
    assert other.visits
    assert (result.verdict, result.address) == (Verdict.OK, "127.0.0.4")


def test_address_that_came_furthest_is_told() -> None:
    with (
        FakeServer(speak_http, host="127.0.0.3") as other,
        closing(Prober(look_up=at_each("127.0.0.3", "127.0.0.4"))) as prober,
    ):
        result = ask(prober, target(other.port, host="peer.example"))
    assert (result.verdict, result.address) == (Verdict.NOT_AMQP, "127.0.0.3")


def test_address_that_came_furthest_is_told_after_timeout() -> None:
    with (
        FakeServer(speak_http, host="127.0.0.3") as other,
        FakeServer(mute, host="127.0.0.4", port=other.port),
        closing(Prober(look_up=at_each("127.0.0.3", "127.0.0.4"))) as prober,
    ):
        result = ask(prober, target(other.port, host="peer.example", timeout_s=2.0))
    assert (result.verdict, result.address) == (Verdict.NOT_AMQP, "127.0.0.3")


def test_hanging_resolver_delays_names_but_not_numbers() -> None:
    release = threading.Event()
    looking: list[object] = []

    def look_up(host: str, port: int) -> list[Address]:
        looking.append(host)
        assert release.wait(AMPLE_S)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    prober = Prober(look_up=look_up)
    names = [f"slow{n}.example" for n in range(limits.LOOKUPS_AT_ONCE + 8)]
    try:
        slow: list[Future[ProbeResult]] = [Future() for _ in names * 3]
        for name, answer in zip(names * 3, slow, strict=True):
            prober.probe(target(5672, host=name, timeout_s=1.0), answer.set_result)
        assert ask(prober, target(free_port())).verdict is Verdict.REFUSED
        assert {answer.result(AMPLE_S).verdict for answer in slow} == {Verdict.UNRESOLVABLE}
        assert sorted(looking) == sorted(names[: limits.LOOKUPS_AT_ONCE]), "equal questions share one lookup"
    finally:
        release.set()
        prober.close()


# --- servers that are no RabbitMQ -----------------------------------------------------------------


def hangs_up(visit: Visit) -> None:
    visit.hear(8)


def http(visit: Visit) -> None:
    visit.hear(8)
    visit.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def garbage(visit: Visit) -> None:
    visit.say(bytes(range(255, 0, -1)))
    visit.hear_until_the_end()


def torrent(visit: Visit) -> None:
    while True:
        visit.say(b"\x08\0\0\0\0\0\0\xce" * 1024)  # AMQP heartbeats, for ever


def another_version(visit: Visit) -> None:
    visit.hear(8)
    visit.say(b"AMQP\x00\x01\x00\x00")


def damaged_greeting(visit: Visit) -> None:
    visit.hear(8)
    good = banner()
    visit.say(good[:12] + b"\xff" * (len(good) - 13) + good[-1:])
    visit.hear_until_the_end()


def nested_greeting(visit: Visit) -> None:
    """Tables in tables, deeper than any decoder that recurses can follow."""
    visit.hear(8)
    depth = 2000
    table = b"".join((6 * (depth - n)).to_bytes(4, "big") + b"\0F" for n in range(depth)) + b"\0\0\0\0"
    method = b"\0\x0a\0\x0a\0\x09" + table
    visit.say(b"\x01\0\0" + len(method).to_bytes(4, "big") + method + b"\xce")
    visit.hear_until_the_end()


def endless_frame(visit: Visit) -> None:
    visit.say(b"\x01\0\0\xff\xff\xff\xff")
    while True:
        visit.say(b"\0" * 65536)


@pytest.mark.parametrize(
    "talk",
    [hangs_up, http, garbage, torrent, another_version, damaged_greeting, nested_greeting, endless_frame],
    ids=lambda talk: talk.__name__,
)
def test_server_without_amqp_is_told_at_once(prober: Prober, talk: Callable[[Visit], None]) -> None:
    with FakeServer(talk) as server:
        result = ask(prober, target(server.port))
    assert result.verdict is Verdict.NOT_AMQP
    assert "in time" not in result.detail
    assert result.round_trip_s is not None


def test_endless_talker_is_read_up_to_the_cap(prober: Prober) -> None:
    said = 0

    def talk(visit: Visit) -> None:
        nonlocal said
        while True:
            visit.say(b"\x08\0\0\0\0\0\0\xce" * 128)
            said += 1024

    with FakeServer(talk) as server:
        assert "without end" in ask(prober, target(server.port)).detail
        server.heard()  # waits until it has hung up
    # what the sockets' buffers took counts as said, but is far below what a greedy reader would have drawn
    assert said < 16 * 1024 * 1024


def test_silent_server_costs_its_time_bound(prober: Prober) -> None:
    with FakeServer(mute) as server:
        result = ask(prober, target(server.port, timeout_s=SHORT_S))
    assert result.verdict is Verdict.SILENT
    assert result.round_trip_s is not None


def test_endless_dribble_costs_its_time_bound(prober: Prober) -> None:
    gone = threading.Event()

    def dribble(visit: Visit) -> None:
        for byte in banner() * 100:
            visit.say(bytes([byte]))
            if gone.wait(0.05):
                return

    with FakeServer(dribble) as server:
        result = ask(prober, target(server.port, timeout_s=SHORT_S))
        gone.set()
    assert result.verdict is Verdict.NOT_AMQP


def test_amqp_of_another_product_gets_no_password(prober: Prober) -> None:
    with FakeServer(greeter(product="Qpid\x1b[2J")) as server:
        result = ask(prober, target(server.port))
        assert PASSWORD.encode() not in server.heard()
    assert result.verdict is Verdict.NOT_RABBITMQ
    assert "Qpid" in result.detail and result.detail.isprintable()


# --- the password ---------------------------------------------------------------------------------


def test_fake_rabbitmq_outside_trusted_networks_gets_no_password(prober: Prober) -> None:
    with FakeServer(generous_rabbit) as server:
        result = ask(prober, target(server.port, networks=ELSEWHERE))
        assert server.heard() == b"AMQP\0\0\x09\x01"
    assert result.verdict is Verdict.NOT_TRUSTED
    assert result.server == "RabbitMQ 3.99.0"
    assert "MIROS_CACHE_TRUSTED_NETWORKS" in result.detail


def test_password_stays_where_none_is_to_be_sent(prober: Prober) -> None:
    with FakeServer(generous_rabbit) as server:
        assert ask(prober, target(server.port, send_password=False)).verdict is Verdict.NOT_TRUSTED
        assert server.heard() == b"AMQP\0\0\x09\x01"


def test_trust_is_judged_by_the_resolved_address(prober: Prober) -> None:
    with FakeServer(generous_rabbit) as server:
        assert ask(prober, target(server.port, host="localhost", networks=ELSEWHERE)).verdict is Verdict.NOT_TRUSTED
        assert ask(prober, target(server.port, host="localhost")).verdict is Verdict.OK


def test_password_is_in_no_text_and_no_log(prober: Prober, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def fail(result: ProbeResult) -> None:
        raise RuntimeError("planted")

    with FakeServer(generous_rabbit) as server:
        question = target(server.port)
        prober.probe(question, fail)
        result = ask(prober, question)
        assert result.ok
        wait_until(lambda: "planted" in caplog.text)
    for text in (repr(question), str(question), repr(result), caplog.text):
        assert PASSWORD not in text


# --- RabbitMQ itself ------------------------------------------------------------------------------


def test_rabbitmq_with_the_exchange_is_found(prober: Prober, rabbit_server: RabbitServer) -> None:
    result = ask(prober, target_of(rabbit_server.start().url))
    assert result.ok and result.verdict is Verdict.OK
    assert result.server.startswith("RabbitMQ ")
    assert result.round_trip_s is not None and result.round_trip_s >= 0


def test_rabbitmq_says_which_step_it_refuses(prober: Prober, rabbit_server: RabbitServer) -> None:
    rabbit_server.start()
    lockedout = rabbit_server.add_user("lockedout", "pw")
    rabbit_server.ctl("clear_permissions", "lockedout")
    verdicts = [
        ask(prober, target_of(rabbit_server.url_for("guest", "wrong"))).verdict,
        ask(prober, target_of(rabbit_server.url_for("nobody", "guest"))).verdict,
        ask(prober, target_of(rabbit_server.url_for("guest", "guest", "missing"))).verdict,
        ask(prober, target_of(lockedout)).verdict,
        ask(prober, target_of(rabbit_server.url, exchange="missing")).verdict,
        ask(prober, target_of(rabbit_server.url)).verdict,
    ]
    assert verdicts == [
        Verdict.LOGIN_REFUSED,
        Verdict.LOGIN_REFUSED,
        Verdict.NO_VHOST,
        Verdict.NO_VHOST,
        Verdict.NO_EXCHANGE,
        Verdict.OK,
    ]


def test_own_exchange_is_found_and_nothing_published(prober: Prober, rabbit_server: RabbitServer) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(rabbit_server.start().url))
    channel = connection.channel()
    channel.exchange_declare("probe.fanout", "fanout")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "probe.fanout")
    assert ask(prober, target_of(rabbit_server.url, exchange="probe.fanout")).ok
    assert channel.queue_declare(queue, passive=True).method.message_count == 0
    channel.exchange_delete("probe.fanout")
    assert ask(prober, target_of(rabbit_server.url, exchange="probe.fanout")).verdict is Verdict.NO_EXCHANGE
    connection.close()


def test_probe_says_goodbye_and_declares_nothing(prober: Prober) -> None:
    with FakeServer(generous_rabbit) as server:
        assert ask(prober, target(server.port)).ok
        heard = server.heard()
    assert b"authentication_failure_close" in heard, "or a wrong password costs 3 s of silence"
    goodbye = pika.frame.Method(0, pika.spec.Connection.Close(200, "", 0, 0)).marshal()
    assert heard.endswith(goodbye)
    passive = pika.frame.Method(1, pika.spec.Exchange.Declare(exchange=EXCHANGE, passive=True)).marshal()
    assert heard.count(passive) == 1
    assert heard.count(EXCHANGE.encode()) == 1


def test_answer_stands_without_a_returned_goodbye(prober: Prober) -> None:
    def talk(visit: Visit) -> None:
        try:
            generous_rabbit(visit, until=pika.spec.Connection.Close)
        finally:
            visit.hear_until_the_end()

    with FakeServer(talk) as server:
        assert ask(prober, target(server.port, timeout_s=2.0)).verdict is Verdict.OK


def test_rabbitmq_that_freezes_after_greeting_is_silent(prober: Prober) -> None:
    with FakeServer(greeter()) as server:
        result = ask(prober, target(server.port, timeout_s=SHORT_S))
    assert result.verdict is Verdict.SILENT
    assert result.server == "RabbitMQ 3.99.0"


def test_rabbitmq_without_password_logins_gets_no_password(prober: Prober) -> None:
    with FakeServer(greeter(mechanisms="EXTERNAL AMQPLAIN")) as server:
        assert ask(prober, target(server.port)).verdict is Verdict.LOGIN_REFUSED
        assert PASSWORD.encode() not in server.heard()


# --- many, cancelled, forked ----------------------------------------------------------------------


def test_two_hundred_probes_run_on_one_thread(prober: Prober) -> None:
    everybody = threading.Barrier(200)

    def greet_when_all_are_here(visit: Visit) -> None:
        visit.hear(8)
        everybody.wait(AMPLE_S)
        visit.say(banner(product="not RabbitMQ"))

    names: set[str] = set()
    threads = NewThreads()
    answers: list[Future[ProbeResult]] = [Future() for _ in range(200)]

    def answered(answer: Future[ProbeResult], result: ProbeResult) -> None:
        names.add(threading.current_thread().name)
        answer.set_result(result)

    with FakeServer(mute) as lonely, FakeServer(greet_when_all_are_here) as server:
        ask(prober, target(lonely.port, timeout_s=0.01))
        assert threads.names("miros-cache-probes") == ["miros-cache-probes"]
        for answer in answers:
            prober.probe(target(server.port), lambda result, answer=answer: answered(answer, result))  # type: ignore[misc]
        verdicts = {answer.result(AMPLE_S).verdict for answer in answers}
        assert threads.names("miros-cache-probes") == ["miros-cache-probes"]
    assert verdicts == {Verdict.NOT_RABBITMQ}
    assert names == {"miros-cache-probes"}
    wait_until(lambda: threads.names() == ["miros-cache-probes"])


def test_probes_are_bounded_and_all_get_a_turn() -> None:
    prober = Prober(at_once=3)
    here = threading.Semaphore(0)
    go_on = threading.Event()

    def talk(visit: Visit) -> None:
        visit.hear(8)
        here.release()
        go_on.wait(AMPLE_S)

    with FakeServer(talk) as server:
        answers: list[Future[ProbeResult]] = [Future() for _ in range(12)]
        for answer in answers:
            prober.probe(target(server.port), answer.set_result)
        for _ in range(3):
            assert here.acquire(timeout=AMPLE_S)
        assert not here.acquire(timeout=0.1), "a fourth one runs"
        assert len(server.visits) == 3
        go_on.set()
        assert {answer.result(AMPLE_S).verdict for answer in answers} == {Verdict.NOT_AMQP}
        prober.close()


def test_cancelled_probe_hangs_up_and_answers_once(prober: Prober) -> None:
    results: list[ProbeResult] = []
    told = threading.Event()

    def done(result: ProbeResult) -> None:
        results.append(result)
        told.set()

    with FakeServer(mute) as server:
        handle = prober.probe(target(server.port), done)
        wait_until(lambda: server.visits)
        handle.cancel()
        handle.cancel()
        assert told.wait(AMPLE_S)
        server.heard()  # waits until the connection is closed
        handle.cancel()
        ask(prober, target(free_port()))  # the prober goes on
    assert [result.verdict for result in results] == [Verdict.CANCELLED]


def test_a_probe_cancelled_before_its_turn_never_dials() -> None:
    prober = Prober(at_once=1)
    with FakeServer(mute) as busy, FakeServer(mute) as never:
        first: Future[ProbeResult] = Future()
        second: Future[ProbeResult] = Future()
        blocking = prober.probe(target(busy.port), first.set_result)
        waiting = prober.probe(target(never.port), second.set_result)
        waiting.cancel()
        assert second.result(AMPLE_S).verdict is Verdict.CANCELLED
        blocking.cancel()
        assert first.result(AMPLE_S).verdict is Verdict.CANCELLED
        # one at a time: when this one has had its turn, all before it have
        assert ask(prober, target(free_port())).verdict is Verdict.REFUSED
        assert never.visits == []
        prober.close()


def test_closed_prober_cancels_all_and_can_start_again() -> None:
    threads = NewThreads()
    prober = Prober(at_once=2)
    with FakeServer(mute) as server:
        answers: list[Future[ProbeResult]] = [Future() for _ in range(5)]
        for answer in answers:
            prober.probe(target(server.port), answer.set_result)
        prober.close()
        assert [answer.result(0).verdict for answer in answers] == [Verdict.CANCELLED] * 5
        assert not threads.names("miros-cache-probes")
    assert ask(prober, target(free_port())).verdict is Verdict.REFUSED
    prober.close()
    prober.close()


def test_probe_whose_thread_has_ended_ignores_cancelling() -> None:
    prober = Prober()
    answer: Future[ProbeResult] = Future()
    handle = prober.probe(target(free_port()), answer.set_result)
    assert answer.result(AMPLE_S).verdict is Verdict.REFUSED
    prober.close()
    handle.cancel()
    assert answer.result(0).verdict is Verdict.REFUSED


def test_idle_thread_ends_and_comes_back() -> None:
    threads = NewThreads()
    prober = Prober(idle_s=0.01)
    for _ in range(3):
        assert ask(prober, target(free_port())).verdict is Verdict.REFUSED
        wait_until(lambda: not threads.names("miros-cache-probes"))


def test_probe_asked_as_the_thread_ends_is_answered() -> None:
    prober = Prober(idle_s=0.0)
    for _ in range(100):
        assert ask(prober, target(1)).verdict is Verdict.REFUSED
    prober.close()


def test_raising_asker_does_not_end_the_thread(prober: Prober, caplog: pytest.LogCaptureFixture) -> None:
    def fail(result: ProbeResult) -> None:
        raise RuntimeError("planted")

    prober.probe(target(free_port()), fail)
    assert ask(prober, target(free_port())).verdict is Verdict.REFUSED
    assert "planted" in caplog.text


def test_raising_asker_does_not_keep_the_thread_forever() -> None:
    threads = NewThreads()
    prober = Prober(idle_s=0.0)

    def fail(result: ProbeResult) -> None:
        raise RuntimeError("planted")

    prober.probe(target(free_port()), fail)
    wait_until(lambda: not threads.names("miros-cache-probes"))


def test_mistake_inside_a_probe_is_logged_and_answered(
    prober: Prober, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Greeting, start: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(Greeting, "__init__", fail)
    with FakeServer(generous_rabbit) as server:
        result = ask(prober, target(server.port))
    assert result.verdict is Verdict.CANCELLED
    assert "planted" in caplog.text and PASSWORD not in caplog.text


def test_forked_child_probes_beside_the_parents_probe(prober: Prober) -> None:
    with FakeServer(mute) as server:
        parents: Future[ProbeResult] = Future()
        handle = prober.probe(target(server.port), parents.set_result)
        wait_until(lambda: server.visits)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                handle.cancel()  # the parent's: not ours to end
                code = 0 if ask(prober, target(free_port())).verdict is Verdict.REFUSED else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not parents.done()
        handle.cancel()
        assert parents.result(AMPLE_S).verdict is Verdict.CANCELLED


def test_no_descriptor_is_left_open(prober: Prober) -> None:
    ask(prober, target(free_port()))
    with FakeServer(mute) as silent, FakeServer(generous_rabbit) as rabbit, FakeServer(garbage) as noise:

        def one_round() -> list[str]:
            ports = (silent.port, rabbit.port, noise.port, free_port())
            answers: list[Future[ProbeResult]] = [Future() for _ in ports]
            for port, answer in zip(ports, answers, strict=True):
                prober.probe(target(port, timeout_s=0.2), answer.set_result)
            for answer in answers:
                answer.result(AMPLE_S)
            for server in (silent, rabbit, noise):
                server.heard()
            gc.collect()
            return descriptors.links()

        descriptors = NewDescriptors()
        for _ in range(6):
            wait_until(lambda: not one_round())


# --- what is asked --------------------------------------------------------------------------------


def test_too_long_exchange_name_is_refused_before_dialling() -> None:
    with pytest.raises(ValueError, match="exchange"):
        target(5672, exchange="x" * 256)
    target(5672, exchange="x" * 255)
