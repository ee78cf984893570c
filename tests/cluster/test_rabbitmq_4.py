"""RabbitMQ 4 warns of nothing that a fleet does, and refuses none of it where all that is deprecated is forbidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from miros_cache_net.testing import Fleet, Host, RabbitFailed, RabbitServer, wait_until
from tests.cluster.stand_ins import programs
from tests.rabbit_log import complaints, warned_of

pytestmark = [pytest.mark.stand_in, pytest.mark.slow]

#: As its `list_deprecated_features` names them.
DEPRECATED = ("amqp_address_v1", "global_qos", "queue_master_locator", "ram_node_type", "transient_nonexcl_queues")
REFUSED = "".join(f"deprecated_features.permit.{name} = false\n" for name in DEPRECATED)


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RabbitServer]:
    monkeypatch.setenv("TEST_RABBITMQ", str(programs("trixie")))
    with RabbitServer(config=request.param) as server:
        assert server.ctl("version").startswith("4.")
        yield server


def ended_log(server: RabbitServer) -> str:
    """Its log, which is whole once it has ended."""
    server.stop()
    return server.log.read_text()


def start_again(server: RabbitServer) -> None:
    """Start it, and again if it looked for transient queues before it had loaded its queues, as 4.0 does now and then.

    Such a start ends with "error while running"; one that finds a transient queue ends each time.
    """
    try:
        server.start()
    except RabbitFailed as error:
        if "failed_to_deny_deprecated_features" not in str(error):
            raise
        server.log.unlink()
        server.start()


def live(alpha: Host, beta: Host, hosts: Fleet) -> None:
    """All that hosts say to each other, once; and again over new links."""
    alpha.write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})
    assert beta.node.read_fleet(timeout_s=20.0) is not None
    turns: list[bool] = []
    beta.node.ask_turn(turns.append)
    wait_until(lambda: bool(turns), 20, "a turn to discover")
    assert len(alpha.node.fleet_status(timeout_s=20.0)) == 2


@pytest.mark.parametrize("server", ["", REFUSED], indirect=True, ids=["as it comes", "refusing what is deprecated"])
def test_a_fleets_whole_life_leaves_no_complaint_in_its_log(server: RabbitServer, tmp_path: Path) -> None:
    with Fleet(tmp_path, server.url, digest_interval_s=1.0) as hosts:
        alpha, beta = hosts.add(), hosts.add()
        live(alpha, beta, hosts)
        assert complaints(ended_log(server)) == []
        start_again(server)
        wait_until(lambda: alpha.node.connected and beta.node.connected, 60, "new links")
        live(alpha, beta, hosts)
    assert complaints(ended_log(server)) == []


@pytest.mark.parametrize("server", [""], indirect=True)
def test_what_is_deprecated_would_be_found_in_its_log(server: RabbitServer) -> None:
    with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("neither durable nor exclusive")
        channel.basic_qos(prefetch_count=1, global_qos=True)
    log = ended_log(server)
    assert warned_of(log) == ["global_qos", "transient_nonexcl_queues"]
    assert len(complaints(log)) == 2
