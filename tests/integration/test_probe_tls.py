"""Probes in TLS against a real RabbitMQ with a certificate of a private authority."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from miros_cache_net.amqp.probe import Prober, ProbeResult, ProbeTarget, Verdict
from miros_cache_net.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, free_port
from tests.fake_servers import FakeServer, Visit, generous_rabbit

AMPLE_S = 30.0
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"),)


@dataclass
class Certificate:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    path: Path
    key_path: Path


def key_usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def issue(directory: Path, name: str, issuer: Certificate | None = None) -> Certificate:
    """A certificate for 127.0.0.1; without `issuer`, one that signs others."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        # Python 3.13 verifies strictly and wants these three
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(key_usage(signs=issuer is None), critical=True)
    )
    certificate = builder.sign(signer, hashes.SHA256())
    path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(key, certificate, path, key_path)


@dataclass
class TLSRabbit:
    authority: Certificate
    certificate: Certificate
    tcp_port: int
    tls_port: int


@pytest.fixture(scope="module")
def tls_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TLSRabbit]:
    directory = tmp_path_factory.mktemp("certificates")
    authority = issue(directory, "authority")
    certificate = issue(directory, "server", authority)
    port = free_port()
    config = (
        f"listeners.ssl.1 = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {authority.path}\n"
        f"ssl_options.certfile = {certificate.path}\n"
        f"ssl_options.keyfile = {certificate.key_path}\n"
    )
    with RabbitServer(config=config) as server:
        yield TLSRabbit(authority, certificate, server.port, port)


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


def test_verified_tls_earns_the_password_where_the_network_does_not(prober: Prober, tls_rabbit: TLSRabbit) -> None:
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


def test_plain_amqp_to_a_tls_port_is_a_mismatch(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    result = ask(prober, f"amqp://guest:guest@127.0.0.1:{tls_rabbit.tls_port}")
    assert result.verdict is Verdict.TLS_MISMATCH
    assert "amqps://" in result.detail


def test_tls_to_a_plain_amqp_port_is_a_mismatch(prober: Prober, tls_rabbit: TLSRabbit) -> None:
    result = ask(prober, f"amqps://guest:guest@127.0.0.1:{tls_rabbit.tcp_port}")
    assert result.verdict is Verdict.TLS_MISMATCH
    assert "amqp://" in result.detail


def test_tls_to_one_that_says_nothing_costs_its_time_bound(prober: Prober) -> None:
    with FakeServer(lambda visit: visit.hear_until_the_end()) as server:
        assert ask(prober, f"amqps://u:p@127.0.0.1:{server.port}", timeout_s=0.3).verdict is Verdict.SILENT
        server.heard()


def test_a_server_that_wants_a_client_certificate_is_a_mismatch(prober: Prober, tls_rabbit: TLSRabbit) -> None:
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
