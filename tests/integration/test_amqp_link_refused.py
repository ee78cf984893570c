"""Who is refused by a real RabbitMQ, what it is told, and that it comes up when the cause is gone."""

from __future__ import annotations

import contextlib
import logging
import socket
import uuid

import pytest

from miros_cache_net.errors import (
    BrokerUnreachable,
    LoginRefused,
    TopologyLost,
    VhostRefused,
)
from miros_cache_net.testing import RabbitServer, free_port, wait_until
from tests.integration.rabbit_links import StartLink, is_up, told


def test_wrong_password_is_told_once_until_right(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pika").setLevel(logging.DEBUG)
    user = f"u{uuid.uuid4().hex[:8]}"
    rabbit_server.add_user(user, "right")
    try:
        _, recorder = start_link(rabbit_server.url_for(user, "hunter2"))
        error = told(recorder, LoginRefused)
        rabbit_server.ctl("change_password", user, stdin="hunter2\n")
        is_up(recorder)
    finally:
        logging.getLogger("pika").setLevel(logging.NOTSET)
    assert len(recorder.downs) == 1 and not error.fatal
    assert f"{user}@127.0.0.1:{rabbit_server.port}" in str(error) and "MIROS_CACHE_AMQP_URL" in str(error)
    assert "hunter2" not in str(error) + caplog.text


def test_missing_virtual_host_is_told_and_awaited(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    vhost = f"v{uuid.uuid4().hex[:8]}"
    _, recorder = start_link(rabbit_server.url_for("guest", "guest", vhost))
    error = told(recorder, VhostRefused)
    assert f"rabbitmqctl add_vhost {vhost}" in str(error)
    rabbit_server.add_vhost(vhost)
    is_up(recorder)
    rabbit_server.ctl("delete_vhost", vhost)
    wait_until(lambda: len(recorder.downs) >= 3, 30)
    # What it is told first depends on what the broker takes down first.
    assert [type(e) for e in recorder.downs[::2]] == [VhostRefused, VhostRefused]
    assert type(recorder.downs[1]) in (BrokerUnreachable, TopologyLost)


def test_user_without_permissions_is_told_the_remedy(
    rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    user = f"u{uuid.uuid4().hex[:8]}"
    url = rabbit_server.add_user(user, "pw")
    rabbit_server.ctl("set_permissions", user, "", "", "")
    _, recorder = start_link(url)
    assert f"rabbitmqctl set_permissions -p / {user}" in str(told(recorder, VhostRefused))


def test_unreachable_broker_is_told_once_without_pika(start_link: StartLink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    _, recorder = start_link(f"amqp://u:hunter2@127.0.0.1:{port}")
    error = told(recorder, BrokerUnreachable)
    assert f"amqp://u@127.0.0.1:{port}" in str(error) and "refused" in str(error) and "\n" not in str(error)
    assert not [record for record in caplog.records if record.name.startswith("pika")]


def test_a_name_that_does_not_exist_is_told(start_link: StartLink) -> None:
    _, recorder = start_link("amqp://no-such-host.invalid")
    assert "no-such-host.invalid" in str(told(recorder, BrokerUnreachable))


@pytest.mark.parametrize(
    ("greeting", "cause"),
    [
        (b"", "hangs"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak AMQP"),
        (b"AMQP\x00\x01\x00\x00", "hangs"),
        (b"\xff" * 200_000, "does not speak AMQP"),
        (None, "does not speak AMQP"),
    ],
)
def test_server_without_amqp_is_told_and_given_up(start_link: StartLink, greeting: bytes | None, cause: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as peers:
        _, recorder = start_link(f"amqp://127.0.0.1:{server.getsockname()[1]}", connect_timeout_s=0.5)
        server.settimeout(20)
        for _ in range(2):
            peer = peers.enter_context(server.accept()[0])
            if greeting is None:
                peer.close()
            else:
                with contextlib.suppress(OSError):
                    peer.sendall(greeting)
        assert cause in str(told(recorder, BrokerUnreachable))


def test_addresses_are_tried_in_turn_until_one_answers(rabbit_url: str, start_link: StartLink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_url = f"amqp://127.0.0.1:{silent.getsockname()[1]}"
        _, recorder = start_link(f"amqp://127.0.0.1:{free_port()}", silent_url, rabbit_url, connect_timeout_s=0.3)
        is_up(recorder)
    assert recorder.downs == []
    assert rabbit_url.rpartition("@")[2].split("/")[0] in recorder.ups[0].broker
