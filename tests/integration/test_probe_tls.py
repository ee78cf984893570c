"""Probes in TLS against a real RabbitMQ with a certificate of a private authority."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, ProbeTarget, Verdict
from miros_cache_net.settings.broker_address import BrokerAddress
from tests.fake_servers import FakeServer, Visit, generous_rabbit
from tests.integration.conftest import TLSRabbit

AMPLE_S = 30.0
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"),)


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


def ask(prober: Prober, url: str, context: ssl.SSLContext | None = None, timeout_s: float = AMPLE_S) -> ProbeResult:
    """Always as for a peer outside the trusted networks: only TLS can earn it the password."""
    answer: Future[ProbeResult] = Future()
    target = ProbeTarget(BrokerAddress.parse(url), "amq.topic", timeout_s, networks=ELSEWHERE, tls_context=context)
    prober.probe(target, answer.set_result)
    return answer.result(AMPLE_S * 2)


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_verified_tls_earns_the_password(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    context = ssl.create_default_context(cafile=str(tls_rabbit.authority.path))
    assert ask(prober, f"amqps://guest:guest@127.0.0.1:{tls_rabbit.tls_port}", context).verdict is Verdict.OK


def test_tls_that_proves_nothing_earns_no_password(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    url = f"amqps://guest:guest@127.0.0.1:{tls_rabbit.tls_port}"
    assert ask(prober, url, unverified()).verdict is Verdict.NOT_TRUSTED
    any_name = ssl.create_default_context(cafile=str(tls_rabbit.authority.path))
    any_name.check_hostname = False
    assert ask(prober, url, any_name).verdict is Verdict.NOT_TRUSTED


def test_a_certificate_that_nobody_vouches_for_is_named(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    result = ask(prober, f"amqps://guest:guest@127.0.0.1:{tls_rabbit.tls_port}")
    assert result.verdict is Verdict.TLS_MISMATCH
    assert "certificate" in result.detail


def test_a_certificate_of_another_host_is_named(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    context = ssl.create_default_context(cafile=str(tls_rabbit.authority.path))
    result = ask(prober, f"amqps://guest:guest@localhost:{tls_rabbit.tls_port}", context)
    assert result.verdict is Verdict.TLS_MISMATCH
    assert "localhost" in result.detail


def test_plain_amqp_to_tls_port_is_a_mismatch(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    result = ask(prober, f"amqp://guest:guest@127.0.0.1:{tls_rabbit.tls_port}")
    assert result.verdict is Verdict.TLS_MISMATCH
    assert "amqps://" in result.detail


def test_tls_to_plain_amqp_port_is_a_mismatch(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    result = ask(prober, f"amqps://guest:guest@127.0.0.1:{tls_rabbit.tcp_port}")
    assert result.verdict is Verdict.TLS_MISMATCH
    assert "amqp://" in result.detail


def test_silent_tls_server_costs_its_time_bound(prober: Prober) -> None:
    with FakeServer(lambda visit: visit.hear_until_the_end()) as server:
        assert ask(prober, f"amqps://u:p@127.0.0.1:{server.port}", timeout_s=0.3).verdict is Verdict.SILENT
        server.heard()


def test_demand_for_a_client_certificate_is_a_mismatch(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    demanding = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    demanding.load_cert_chain(tls_rabbit.certificate.path, tls_rabbit.certificate.key_path)
    demanding.load_verify_locations(tls_rabbit.authority.path)
    demanding.verify_mode = ssl.CERT_REQUIRED

    def talk(visit: Visit) -> None:
        visit.connection = demanding.wrap_socket(visit.connection, server_side=True)
        generous_rabbit(visit)

    context = ssl.create_default_context(cafile=str(tls_rabbit.authority.path))
    with FakeServer(talk) as server:
        result = ask(prober, f"amqps://guest:guest@127.0.0.1:{server.port}", context)
    assert result.verdict is Verdict.TLS_MISMATCH
    assert "client certificate" in result.detail
