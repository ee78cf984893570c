"""Nodes over TLS: verified by default, and each refusal named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import Fleet, wait_until
from tests.certificates import issue
from tests.integration.conftest import TLSRabbit


@pytest.fixture
def hosts(tmp_path: Path, tls_rabbit: TLSRabbit) -> Iterator[Fleet]:
    with Fleet(tmp_path, f"amqps://guest:guest@127.0.0.1:{tls_rabbit.tls_port}") as made:
        yield made


def test_hosts_agree_over_verified_tls(hosts: Fleet, tls_rabbit: TLSRabbit) -> None:
    alpha, _ = (hosts.add(name, tls_ca_file=tls_rabbit.authority.path) for name in ("alpha", "beta"))
    alpha.write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})
    assert alpha.status()["broker"].endswith(f"amqps://guest@127.0.0.1:{tls_rabbit.tls_port}")


def test_certificate_of_unknown_authority_is_refused_by_name(hosts: Fleet, tmp_path: Path) -> None:
    alpha = hosts.add("alpha", tls_ca_file=issue(tmp_path, "another").path, wait=False)
    trouble = wait_until(lambda: alpha.status()["trouble"], what="the trouble to be known")
    assert "certificate" in trouble
    assert "MIROS_CACHE_TLS_CA_FILE" in trouble
    assert not alpha.connected


def test_certificate_for_another_host_is_refused_by_name(tmp_path: Path, tls_rabbit: TLSRabbit) -> None:
    with Fleet(tmp_path, f"amqps://guest:guest@localhost:{tls_rabbit.tls_port}") as hosts:
        alpha = hosts.add("alpha", tls_ca_file=tls_rabbit.authority.path, wait=False)
        trouble = wait_until(lambda: alpha.status()["trouble"], what="the trouble to be known")
    assert f"localhost:{tls_rabbit.tls_port}" in trouble
    assert "certificate is not valid for 'localhost'" in trouble


def test_host_without_verification_takes_any_certificate(hosts: Fleet, tmp_path: Path) -> None:
    hosts.add("alpha", tls_ca_file=issue(tmp_path, "another").path, tls_verify=False)
