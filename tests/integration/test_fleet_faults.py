"""RabbitMQ and the network misbehave under a fleet that goes on writing; then all agree, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from miros_cache_net import limits
from miros_cache_net.testing import Fleet, RabbitServer, TcpForwarder, wait_until
from tests.threads import NewThreads

#: The long soak: MIROS_CACHE_RESTARTS=20
RESTARTS = int(os.environ.get("MIROS_CACHE_RESTARTS", "2"))
EXCHANGE = "miros.cache.exchange"


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    """One that may be mistreated."""
    with RabbitServer() as server:
        server.add_vhost("fleet")
        server.add_user("node", "first", "fleet")
        yield server


class Load:
    """Every host writes keys of its own, all the time."""

    def __init__(self, hosts: Fleet) -> None:
        self.hosts = hosts
        self.acknowledged: list[str] = []
        self.slowest_s = 0.0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(len(hosts))]

    def __enter__(self) -> Load:
        self.hosts[0].write({"begun": True})
        self.hosts.agree(on=lambda contents: "begun" in contents)
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 10) -> None:
        """Wait for that many more writes."""
        so_far = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) >= so_far + count, timeout_s=30, what="the load")

    def _write(self, number: int) -> None:
        for count in range(1_000_000):
            if self._ended.is_set():
                return
            key, began_s = f"{number}-{count}", time.monotonic()
            self.hosts[number].update({key: count})
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            self.acknowledged.append(key)
            self._ended.wait(0.05)


Fault = Callable[[RabbitServer, Load], None]


def killed(server: RabbitServer, load: Load) -> None:
    for _ in range(RESTARTS):
        server.kill()
        load.more()
        server.restart()
        wait_until(lambda: all(host.connected for host in load.hosts), timeout_s=60, what="the links")


def paused(server: RabbitServer, load: Load) -> None:
    server.pause()
    wait_until(lambda: not any(host.connected for host in load.hosts), timeout_s=60, what="everybody to notice")
    load.more()
    server.resume()


def memory_alarm(server: RabbitServer, load: Load) -> None:
    with alarmed(server):
        load.more(30)
        assert not set(load.acknowledged) <= set(load.hosts[0].read()), "the alarm alarms nobody"


def exchange_deleted(server: RabbitServer, load: Load) -> None:
    with vandal(server) as deleting:
        deleting.exchange_delete(EXCHANGE)
    load.more()


def queues_deleted(server: RabbitServer, load: Load) -> None:
    names = server.ctl("list_queues", "--silent", "-p", "fleet", "name").split()
    for name in names:
        # RabbitMQ protects exclusive queues from others; the request queue is anybody's
        with contextlib.suppress(pika.exceptions.AMQPError), vandal(server) as deleting:
            deleting.queue_delete(name)
    load.more()


def vhost_deleted(server: RabbitServer, load: Load) -> None:
    server.ctl("delete_vhost", "fleet")
    wait_until(lambda: not any(host.connected for host in load.hosts), timeout_s=60, what="everybody to notice")
    server.add_vhost("fleet")
    server.ctl("set_permissions", "-p", "fleet", "node", ".*", ".*", ".*")


def password_changed(server: RabbitServer, load: Load) -> None:
    server.ctl("change_password", "node", "second")
    server.ctl("close_all_connections", "--global", "changed")
    wait_until(lambda: "refused" in load.hosts[0].status()["trouble"], timeout_s=30, what="the refusal")
    load.more()
    server.ctl("change_password", "node", "first")


def connections_closed(server: RabbitServer, load: Load) -> None:
    server.ctl("close_all_connections", "--global", "maintenance")
    load.more()


@contextlib.contextmanager
def alarmed(server: RabbitServer) -> Iterator[None]:
    server.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        server.ctl("set_vm_memory_high_watermark", "0.4")


@contextlib.contextmanager
def vandal(server: RabbitServer) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """Somebody else with an account on the broker."""
    server.ctl("set_permissions", "-p", "fleet", "guest", ".*", ".*", ".*")
    connection = pika.BlockingConnection(pika.URLParameters(server.url_for("guest", "guest", "fleet")))
    try:
        yield connection.channel()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "fault",
    [
        killed,
        paused,
        memory_alarm,
        exchange_deleted,
        queues_deleted,
        vhost_deleted,
        password_changed,
        connections_closed,
    ],
)
def test_hosts_agree_and_lose_nothing_after_a_fault(tmp_path: Path, rabbit: RabbitServer, fault: Fault) -> None:
    threads = NewThreads()
    url = rabbit.url_for("node", "first", "fleet")
    with Fleet(tmp_path, url, exchange=EXCHANGE, heartbeat_s=2, digest_interval_s=1.0) as hosts:
        for name in ("alpha", "beta", "gamma"):
            hosts.add(name)
        with Load(hosts) as load:
            fault(rabbit, load)
            load.more()
        hosts.agree(on=lambda contents: set(load.acknowledged) <= set(contents), timeout_s=90)
        # a write is a matter of the local disk, whatever the broker does
        assert load.slowest_s < 5
        wait_until(lambda: all(host.connected for host in hosts), timeout_s=60, what="the links")
        newcomer = hosts.add("newcomer")
        assert newcomer.cache.read().version == hosts[0].cache.read().version
        assert newcomer.status()["counters"].get("received_answer"), "nobody serves requests any more"
        wait_until(lambda: rabbit.connection_count() == 8, timeout_s=30, what="each host to have its two connections")
    wait_until(lambda: not threads.names(), what="no thread to be left")
    wait_until(lambda: rabbit.connection_count() == 0, timeout_s=30, what="no connection to be left")


def test_bad_network_only_delays(tmp_path: Path, rabbit: RabbitServer) -> None:
    with (
        TcpForwarder(rabbit.port) as forwarder,
        Fleet(tmp_path, rabbit.url_for("node", "first", "fleet"), digest_interval_s=1.0) as hosts,
    ):
        far = rabbit.url_for("node", "first", "fleet").replace(str(rabbit.port), str(forwarder.port))
        alpha = hosts.add("alpha")
        beta = hosts.add("beta", amqp_urls=far)
        alpha.write({})
        hosts.agree()
        troubles = (
            (lambda: forwarder.slow_down(0.3), lambda: forwarder.slow_down(0.0)),
            (forwarder.refuse, forwarder.accept),
            (forwarder.freeze, forwarder.thaw),
        )
        for number, (begin, end) in enumerate(troubles):
            begin()
            alpha.update({f"alpha-{number}": number})
            beta.update({f"beta-{number}": number})
            if begin == forwarder.freeze:
                wait_until(lambda: not beta.connected, timeout_s=30, what="the silence to be noticed")
            end()
            hosts.agree(on=lambda contents, n=number: {f"alpha-{n}", f"beta-{n}"} <= set(contents), timeout_s=60)


@pytest.fixture
def undigested(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of hosts that say no digest: those would bring in a second what was not sent when it should be."""
    monkeypatch.setattr(limits, "DIGEST_LEAST_S", 3600.0)
    return {"digest_interval_s": 3600.0}


def test_newest_is_sent_when_the_alarm_ends(tmp_path: Path, rabbit: RabbitServer, undigested: dict[str, Any]) -> None:
    with Fleet(tmp_path, rabbit.url_for("node", "first", "fleet"), **undigested) as hosts:
        alpha, _ = hosts.add("alpha"), hosts.add("beta")
        alpha.write({"n": 0})
        hosts.agree()
        with alarmed(rabbit):
            # a question has RabbitMQ hold the connection up: what is written then waits on this side of it
            alpha.node.read_fleet(timeout_s=0.5)
            alpha.update({"n": 1})
        hosts.agree(on=lambda contents: contents == {"n": 1})


def test_lost_message_is_resent_over_the_next_link(
    tmp_path: Path, rabbit: RabbitServer, undigested: dict[str, Any]
) -> None:
    near = rabbit.url_for("node", "first", "fleet")
    with TcpForwarder(rabbit.port) as forwarder, Fleet(tmp_path, near, **undigested) as hosts:
        far = near.replace(str(rabbit.port), str(forwarder.port))
        alpha, _ = hosts.add("alpha", amqp_urls=far), hosts.add("beta")
        alpha.write({"n": 0})
        hosts.agree()
        forwarder.freeze()
        alpha.update({"n": 1})
        wait_until(lambda: b".CACHE" in forwarder.held, what="the document to be on its way")
        forwarder.refuse()
        wait_until(lambda: not alpha.connected, what="alpha to notice")
        forwarder.accept()
        hosts.agree(on=lambda contents: contents == {"n": 1}, timeout_s=60)
        assert alpha.status()["counters"]["sendings_lost"] == 1
