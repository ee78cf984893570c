"""What integration tests share: a RabbitMQ that speaks TLS under a private authority, and links to break."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from miros_cache_net.fleet.place import Place
from miros_cache_net.testing import Fleet, RabbitServer, free_port
from miros_cache_net.wire.keyring import generate_key
from tests.certificates import Certificate, issue
from tests.integration.rabbit_links import Links, StartLink


@dataclass
class TLSRabbit:
    authority: Certificate
    certificate: Certificate
    tcp_port: int
    tls_port: int


@pytest.fixture(scope="session")
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
def hosts(tmp_path: Path, rabbit_server: RabbitServer) -> Iterator[Fleet]:
    """A fleet on the session's RabbitMQ without a host yet; its pace is that of a user's."""
    with Fleet(tmp_path, rabbit_server.start().url, heartbeat_s=10, digest_interval_s=30.0) as made:
        yield made


@pytest.fixture
def place() -> Place:
    """One that no other test meets."""
    return Place(f"test.{uuid.uuid4().hex}", "fleet", "cache")


@pytest.fixture
def variables(rabbit_url: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of one fleet's hosts: the broker, a key, a scope of the test's own."""
    return {
        "MIROS_CACHE_AMQP_URL": rabbit_url,
        # a first host is alone after three of them
        "MIROS_CACHE_ANSWER_TIMEOUT_S": "0.5",
        "MIROS_CACHE_KEYS": generate_key().decode(),
        "MIROS_CACHE_SCOPE": request.node.name[:100],
    }


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """What was started and opened for a test, and ends with it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_link(place: Place, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[StartLink]:
    """Starts a link of `place` to the given URLs, with `LinkOptions` by name; stopped at the test's end.

    Containment hides faults of ours from users; it must not hide them from tests.
    """
    links = Links(place)
    yield links.start
    links.stop()
    contained = [record.getMessage() for record in caplog.get_records("call") if "contained" in record.getMessage()]
    assert not contained or "inside_pika" in request.node.name
