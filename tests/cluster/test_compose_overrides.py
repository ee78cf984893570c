"""The overrides of docker-compose.yml for real, all together: a RabbitMQ cluster that speaks TLS only."""

from __future__ import annotations

import faulthandler
import json
from collections.abc import Iterator
from typing import Any

import pytest

from miros_cache_net.testing import wait_until
from tests.cluster.compose_project import NODES, ComposeProject

pytestmark = [pytest.mark.compose, pytest.mark.slow]

BROKERS = ("rabbitmq", "rabbitmq2", "rabbitmq3")


@pytest.fixture(autouse=True)
def patience() -> None:
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def project() -> Iterator[ComposeProject]:
    faulthandler.cancel_dump_traceback_later()
    brokers = ",".join(f"amqps://{name}" for name in BROKERS)
    project = ComposeProject(overrides=["rabbitmq-cluster", "tls"], BROKERS=brokers)
    try:
        project.up()
        yield project
    finally:
        project.close()
        assert project.remains() == []


def links(project: ComposeProject, asker: str) -> dict[str, Any]:
    """Each host's broker, as `status` on one of them shows it."""
    shown = json.loads(project.shell(asker, "miros-cache-net", "status", "--json", check=False) or "{}")
    return {node["host"]: node.get("broker") for node in shown.get("nodes", [])}


def test_every_host_is_linked_by_tls(project: ComposeProject) -> None:
    wait_until(lambda: set(links(project, "alpha")) == set(NODES), timeout_s=60)
    assert all(" at amqps://" in broker for broker in links(project, "alpha").values())
    found = project.read("alpha")["dict"]["addresses"]
    assert sorted(found) == sorted(BROKERS)


def test_nothing_listens_without_tls(project: ComposeProject) -> None:
    listeners = project.shell("rabbitmq2", "rabbitmq-diagnostics", "--quiet", "listeners", "--formatter", "json")
    ports = {each["port"]: each["protocol"] for each in json.loads(listeners)["listeners"]}
    assert 5672 not in ports and ports[5671] == "amqp/ssl"


def test_a_certificate_of_another_ca_is_refused(project: ComposeProject) -> None:
    other = ["-e", "MIROS_CACHE_TLS_CA_FILE=", "alpha", "miros-cache-net", "read", "--fleet"]
    done = project.compose("exec", "-T", *other, check=False)
    assert done.returncode == 3
    assert "was rejected" in done.stderr and "MIROS_CACHE_TLS_CA_FILE" in done.stderr


def test_the_broker_that_dies_takes_no_host_along(project: ComposeProject) -> None:
    project.compose("kill", "rabbitmq")
    project.shell("alpha", "miros-cache-net", "update", 'note="without it"')
    wait_until(lambda: all(project.read(node)["dict"].get("note") == "without it" for node in NODES), timeout_s=60)
    wait_until(lambda: set(links(project, "beta")) == set(NODES), timeout_s=60)
    assert all("@rabbitmq:" not in broker for broker in links(project, "beta").values())
