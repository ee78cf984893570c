"""A name with several addresses, where at the first something else listens than the broker."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from miros_cache_net.errors import BrokerUnreachable
from miros_cache_net.testing import RabbitServer
from tests.fake_servers import FakeServer, Visit, mute
from tests.integration.rabbit_links import StartLink, is_up, told

OTHER, BROKER = "127.0.0.4", "127.0.0.1"


def hang_up(_visit: Visit) -> None: ...


def speak_http(visit: Visit) -> None:
    visit.hear(8)
    visit.say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def addresses(*hosts: str) -> Callable[..., list[object]]:
    """As `socket.getaddrinfo`, for any name."""

    def getaddrinfo(_host: str, port: int, *_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)) for host in hosts]

    return getaddrinfo


@pytest.mark.parametrize("talk", [hang_up, mute, speak_http])
def test_link_goes_on_to_next_address_of_name(
    rabbit_server: RabbitServer, start_link: StartLink, talk: Callable[[Visit], None]
) -> None:
    with FakeServer(talk, host=OTHER, port=rabbit_server.port) as other:
        link, recorder = start_link(
            f"amqp://broker.example:{rabbit_server.port}",
            getaddrinfo=addresses(OTHER, BROKER),
            connect_timeout_s=3.0,
        )
        is_up(recorder)
        assert other.visits and recorder.downs == [], "one address of several that does not serve is no news"
        link.stop()


def test_next_name_comes_after_last_address_of_name(rabbit_server: RabbitServer, start_link: StartLink) -> None:
    with FakeServer(hang_up, host=OTHER, port=rabbit_server.port) as other:
        link, recorder = start_link(
            f"amqp://broker.example:{rabbit_server.port}",
            f"amqp://{BROKER}:{rabbit_server.port}",
            getaddrinfo=addresses(OTHER, OTHER),
        )
        is_up(recorder)
        assert other.visits and recorder.downs == []
        link.stop()


def test_a_name_without_addresses_is_told(start_link: StartLink) -> None:
    def unknown(*_: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    _, recorder = start_link("amqp://broker.example", getaddrinfo=unknown)
    assert "Name or service not known" in str(told(recorder, BrokerUnreachable))
