"""Nodes over TLS: verified by default, and each refusal named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import wait_until
from tests.certificates import issue
from tests.hosts import Hosts, agree, fleet
from tests.integration.conftest import TLSRabbit


@pytest.fixture
def hosts(tmp_path: Path, tls_rabbit: TLSRabbit) -> Iterator[Hosts]:
    with fleet(tmp_path, f"amqps://guest:guest@127.0.0.1:{tls_rabbit.tls_port}") as made:
        yield made


def test_hosts_agree_over_verified_tls(hosts: Hosts, tls_rabbit: TLSRabbit) -> None:
    alpha, beta = (hosts.joined(name, tls_ca_file=tls_rabbit.authority.path) for name in ("alpha", "beta"))
    alpha.cache.write({"a": 1})
    agree(alpha, beta, on=lambda contents: contents == {"a": 1})
    assert alpha.node.status()["broker"].endswith(f"amqps://guest@127.0.0.1:{tls_rabbit.tls_port}")


def test_a_certificate_of_an_unknown_authority_is_refused_by_name(hosts: Hosts, tmp_path: Path) -> None:
    alpha = hosts.start("alpha", tls_ca_file=issue(tmp_path, "another").path)
    trouble = wait_until(lambda: alpha.node.status()["trouble"], what="the trouble to be known")
    assert "certificate" in trouble
    assert "MIROS_CACHE_TLS_CA_FILE" in trouble
    assert not alpha.node.connected


def test_a_certificate_for_another_host_name_is_refused_by_name(tmp_path: Path, tls_rabbit: TLSRabbit) -> None:
    with fleet(tmp_path, f"amqps://guest:guest@localhost:{tls_rabbit.tls_port}") as hosts:
        alpha = hosts.start("alpha", tls_ca_file=tls_rabbit.authority.path)
        trouble = wait_until(lambda: alpha.node.status()["trouble"], what="the trouble to be known")
    assert f"localhost:{tls_rabbit.tls_port}" in trouble
    assert "certificate is not valid for 'localhost'" in trouble


def test_a_host_told_not_to_verify_takes_any_certificate(hosts: Hosts, tmp_path: Path) -> None:
    hosts.joined("alpha", tls_ca_file=issue(tmp_path, "another").path, tls_verify=False)
