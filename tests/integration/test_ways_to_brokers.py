"""What stands between a host and its brokers, or is wrong with them: a load balancer, a name, two clusters for one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cli.checks.broker_checks import check_brokers
from miros_cache_net.cli.checks.finding import FAILED, OK
from miros_cache_net.errors import BrokerUnreachable
from miros_cache_net.fleet.place import Place
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import Fleet, RabbitServer, TcpForwarder, wait_until
from tests.integration.rabbit_links import Links, is_up, told


def settings_for(*urls: str, file: Path) -> Settings:
    return Settings(amqp_urls=",".join(urls), keys=generate_key().decode(), file=str(file))


def test_heartbeats_keep_links_through_an_idle_timeout(tmp_path: Path, rabbit_url: str) -> None:
    port = int(rabbit_url.rpartition(":")[2].partition("/")[0])
    with TcpForwarder(port, idle_s=3.0) as balancer, Fleet(tmp_path, rabbit_url) as hosts:
        through = rabbit_url.replace(f":{port}/", f":{balancer.port}/")
        kept = hosts.add("kept", amqp_urls=through, heartbeat_s=2, digest_interval_s=60.0)
        ended = hosts.add("ended", amqp_urls=through, heartbeat_s=30, digest_interval_s=60.0)
        wait_until(lambda: ended.status()["counters"].get("links_failed"), timeout_s=30, what="the balancer to end it")
        wait_until(lambda: ended.status()["counters"]["links_made"] >= 2, timeout_s=30, what="it to come back")
        assert kept.status()["counters"]["links_failed"] == 0
        kept.update({"a": 1})
        hosts.agree(on=lambda contents: contents == {"a": 1})


def test_a_forgotten_connection_costs_two_heartbeats_at_most(tmp_path: Path, rabbit_url: str) -> None:
    port = int(rabbit_url.rpartition(":")[2].partition("/")[0])
    with TcpForwarder(port) as balancer, Fleet(tmp_path, rabbit_url, heartbeat_s=2) as hosts:
        near, far = hosts.add(), hosts.add("far", amqp_urls=rabbit_url.replace(f":{port}/", f":{balancer.port}/"))
        near.write({})
        hosts.agree()
        balancer.forget()
        far.update({"a": 1})
        hosts.agree(on=lambda contents: contents == {"a": 1}, timeout_s=60)


@pytest.fixture(scope="module")
def other() -> Iterator[RabbitServer]:
    with RabbitServer() as server:
        yield server


def test_doctor_says_that_two_clusters_are_not_one(rabbit_url: str, other: RabbitServer, path: Path) -> None:
    findings = check_brokers(settings_for(rabbit_url, other.url, file=path), path)
    (cluster,) = [each for each in findings if each.check == "cluster"]
    assert cluster.outcome == FAILED
    assert "one Erlang cookie" in cluster.fix and str(other.port) in cluster.detail
    assert "guest:" not in cluster.detail


def test_doctor_says_that_the_nodes_of_one_cluster_are_one(rabbit_url: str, path: Path) -> None:
    same = rabbit_url.replace("127.0.0.1", "localhost")
    findings = check_brokers(settings_for(rabbit_url, same, file=path), path)
    assert [each.outcome for each in findings if each.check == "cluster"] == [OK]


def test_an_unresolved_name_is_reported_and_retried(rabbit_server: RabbitServer, rabbit_url: str) -> None:
    known: list[str] = []

    def getaddrinfo(host: str, *arguments: Any, **more: Any) -> Any:
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return socket.getaddrinfo("127.0.0.1", *arguments, **more)

    links = Links(Place("names", "fleet", "cache"))
    try:
        url = rabbit_url.replace("127.0.0.1", "broker.not-yet.example")
        _link, recorder = links.start(url, getaddrinfo=getaddrinfo)
        error = told(recorder, BrokerUnreachable)
        assert "broker.not-yet.example" in str(error) and "Name or service not known" in str(error)
        known.append("now")
        is_up(recorder)
    finally:
        links.stop()
