"""docker-compose.yml runs the main job: three hosts and a RabbitMQ, as containers of Debian trixie's generation."""

from __future__ import annotations

import faulthandler
import json
from collections.abc import Iterator
from typing import Any

import pytest

from miros_cache_net.testing import wait_until
from tests.cluster.compose_project import NODES, ComposeProject, run
from tests.rabbit_log import complaints

pytestmark = [pytest.mark.compose, pytest.mark.slow]


@pytest.fixture(autouse=True)
def patience() -> None:
    """An image and a broker's start may take longer than a whole test elsewhere; here each step has a bound."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def project() -> Iterator[ComposeProject]:
    faulthandler.cancel_dump_traceback_later()
    project = ComposeProject()
    try:
        project.up()
        yield project
    finally:
        project.close()
        assert project.remains() == []


def discoverer(document: dict[str, Any]) -> str:
    return str(document["origin"]).rpartition("-")[0]


def test_one_host_discovers_for_the_whole_fleet(project: ComposeProject) -> None:
    # its document is there before its contents are
    wait_until(lambda: all("addresses" in project.read(node).get("dict", {}) for node in NODES), timeout_s=60)
    found = {node: project.read(node) for node in NODES}
    for document in found.values():
        assert document["dict"]["addresses"] == ["rabbitmq"]
        assert discoverer(document) in NODES
        assert not document["expired"]
    assert len({document["version"] for document in found.values()}) == 1
    logs = project.logs(discoverer(found["alpha"]))
    assert all(f"scouted {name}: not usable, " in logs for name in NODES)
    assert project.logs().count("scouted rabbitmq: usable") == 1, "more than one has discovered"


def test_a_change_on_gamma_arrives_on_every_host(project: ComposeProject) -> None:
    project.shell("gamma", "miros-cache-net", "update", 'note="hello"')
    wait_until(lambda: all(project.read(node)["dict"].get("note") == "hello" for node in NODES), timeout_s=60)


def test_every_container_becomes_healthy_without_restarts(project: ComposeProject) -> None:
    running = ("rabbitmq", *NODES)

    def health() -> set[str]:
        containers = project.containers()
        return {containers[service]["State"]["Health"]["Status"] for service in running}

    wait_until(lambda: health() == {"healthy"}, timeout_s=90)
    containers = project.containers()
    assert [containers[service]["RestartCount"] for service in running] == [0, 0, 0, 0]
    assert containers["keys"]["State"]["ExitCode"] == 0


def test_key_and_password_are_only_where_needed(project: ComposeProject) -> None:
    key = project.shell("alpha", "cat", "/etc/miros-cache-net/keys").split()[0]
    password = project.shell("alpha", "cat", "/etc/miros-cache-net/rabbit-password").strip()
    assert len(key) == 44
    assert len(password) > 40
    seen = [
        project.logs(),
        json.dumps(project.containers()),
        run(["docker", "image", "inspect", project.images["NODE_IMAGE"]]).stdout,
        run(["docker", "history", "--no-trunc", project.images["NODE_IMAGE"]]).stdout,
        project.shell("rabbitmq", "sh", "-c", "cat /etc/rabbitmq/conf.d/*; env"),
        project.shell("beta", "env"),
        project.shell("beta", "sh", "-c", "cat /proc/[0-9]*/cmdline"),
    ]
    for text in seen:
        assert text
        assert key not in text
        assert password not in text
    assert "missing" in project.shell("rabbitmq", "sh", "-c", "ls /etc/miros-cache-net >/dev/null 2>&1 || echo missing")


def test_rabbitmq_4_neither_warns_nor_refuses(project: ComposeProject) -> None:
    assert project.shell("rabbitmq", "rabbitmqctl", "--quiet", "version").startswith("4.")
    assert complaints(project.logs("rabbitmq")) == []


def test_broker_knows_only_one_user_and_no_guest(project: ComposeProject) -> None:
    assert project.shell("rabbitmq", "rabbitmqctl", "--quiet", "list_users", "--no-table-headers").split() == [
        "fleet",
        "[]",
    ]
    login = "import pika; pika.BlockingConnection(pika.URLParameters('amqp://guest:guest@rabbitmq'))"
    refused = project.compose("exec", "-T", "beta", "python3", "-c", login, check=False)
    assert refused.returncode == 1
    assert "ACCESS_REFUSED" in refused.stderr


def test_nodes_can_write_only_to_their_own_volume(project: ComposeProject) -> None:
    for node in NODES:
        assert project.shell(node, "id", "-u").strip() == "10001"
        for place in ("/opt", "/etc/miros-cache-net"):
            assert project.shell(node, "sh", "-c", f"touch {place}/x 2>/dev/null || echo no").strip() == "no"


def test_no_port_of_the_machine_is_opened(project: ComposeProject) -> None:
    for container in project.containers().values():
        assert not any((container["NetworkSettings"]["Ports"] or {}).values())


KILL_THE_NODE = """
import glob, os, signal
for path in glob.glob("/proc/[0-9]*/cmdline"):
    number = int(path.split("/")[2])
    if number != 1 and open(path, "rb").read().partition(b"\\0--discover")[0].endswith(b"\\0node"):
        os.kill(number, signal.SIGKILL)
"""


def test_dead_node_is_started_again_and_catches_up(project: ComposeProject) -> None:
    project.shell("gamma", "python3", "-c", KILL_THE_NODE, check=False)  # the container goes, and takes it along
    project.shell("beta", "miros-cache-net", "update", "after=1")
    wait_until(lambda: project.containers()["gamma"]["RestartCount"] == 1, timeout_s=30)
    wait_until(lambda: project.read("gamma").get("dict", {}).get("after") == 1, timeout_s=60)


def test_another_host_goes_on_when_the_discoverer_dies(project: ComposeProject) -> None:
    killed = discoverer(project.read("alpha"))
    left, *_ = others = [node for node in NODES if node != killed]
    project.compose("kill", killed)
    project.shell(left, "miros-cache-net", "update", "time_out_in_minutes=0")

    def has_anothers(node: str) -> bool:
        document = project.read(node)
        return bool(document) and not document["expired"] and discoverer(document) in others

    wait_until(lambda: all(has_anothers(node) for node in others), timeout_s=60)
    assert project.read(left)["dict"]["note"] == "hello"
    project.compose("start", killed)
    wait_until(lambda: has_anothers(killed), timeout_s=60)


def test_everything_ends_in_good_order_when_told_to(project: ComposeProject) -> None:
    project.compose("stop", timeout_s=120)
    codes = {service: container["State"]["ExitCode"] for service, container in project.containers().items()}
    assert codes == dict.fromkeys(("keys", "rabbitmq", *NODES), 0)


def test_second_start_finds_everything_as_it_was(project: ComposeProject) -> None:
    discovered = project.logs().count("scouted rabbitmq: usable")
    project.compose("up", "-d", timeout_s=240)
    wait_until(lambda: all(project.read(node) for node in NODES), timeout_s=60)
    for node in NODES:
        assert project.read(node)["dict"]["note"] == "hello"
    project.shell("beta", "miros-cache-net", "update", 'note="again"')
    wait_until(lambda: all(project.read(node)["dict"]["note"] == "again" for node in NODES), timeout_s=60)
    assert project.logs().count("scouted rabbitmq: usable") == discovered, "discovered again although all were young"
