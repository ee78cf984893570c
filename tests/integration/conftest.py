"""What integration tests share: a RabbitMQ that speaks TLS under a private authority."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from miros_cache_net.testing import RabbitServer, free_port
from tests.certificates import Certificate, issue


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
