"""One LAN for all tests of this folder: two hosts with a RabbitMQ each, and one without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mesh.old_package import MeshHost, MeshLan

Lan = tuple[MeshHost, ...]


@pytest.fixture(scope="package")
def mesh_lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    """Kept between tests; take `warm_lan` or `cold_lan`."""
    with MeshLan(3, tmp_path_factory.mktemp("mesh"), brokers=2) as hosts:
        yield hosts


@pytest.fixture
def cold_lan(mesh_lan: Lan) -> Iterator[Lan]:
    """The two with a RabbitMQ, their directories empty; what a test starts there is killed with the test."""
    yield mesh_lan[:2]
    for host in mesh_lan:
        host.clear()


@pytest.fixture
def bare_host(cold_lan: Lan, mesh_lan: Lan) -> MeshHost:
    """The one without a RabbitMQ."""
    return mesh_lan[2]


@pytest.fixture
def warm_lan(cold_lan: Lan) -> Lan:
    """Its hosts know each other by their LAN files."""
    for host in cold_lan:
        host.remember(each.address for each in cold_lan)
    return cold_lan
