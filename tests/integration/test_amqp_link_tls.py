"""TLS between a link and RabbitMQ, with and without trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.errors import (
    BrokerUnreachable,
    SettingsError,
    TLSRefused,
)
from miros_cache_net.fleet.place import Place
from miros_cache_net.settings.broker_address import BrokerAddress
from tests.fake_servers import FakeServer, mute
from tests.integration.conftest import TLSRabbit
from tests.integration.link_contract import talk
from tests.integration.rabbit_links import NewSockets, StartLink, is_up, told


def test_tls_with_a_trusted_authority_carries_messages(tls_rabbit: TLSRabbit, start_link: StartLink) -> None:
    sockets = NewSockets(tls_rabbit.tls_port)
    link, recorder = start_link(f"amqps://127.0.0.1:{tls_rabbit.tls_port}", tls_ca_file=tls_rabbit.authority.path)
    _, other = start_link(f"amqp://127.0.0.1:{tls_rabbit.tcp_port}")
    is_up(recorder)
    is_up(other)
    talk(link, other, b"x" * 1_000_000)
    link.stop()
    assert sockets.count() == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_untrusted_certificate_is_refused(tls_rabbit: TLSRabbit, start_link: StartLink, host: str) -> None:
    trusted = tls_rabbit.authority.path if host == "localhost" else None
    _, recorder = start_link(f"amqps://{host}:{tls_rabbit.tls_port}", tls_ca_file=trusted)
    error = told(recorder, TLSRefused)
    assert "certificate" in str(error) and f"{host}:{tls_rabbit.tls_port}" in str(error) and "\n" not in str(error)
    assert not recorder.ups


def test_without_verification_any_certificate_will_do(tls_rabbit: TLSRabbit, start_link: StartLink) -> None:
    _, recorder = start_link(f"amqps://localhost:{tls_rabbit.tls_port}", tls_verify=False)
    is_up(recorder)


def test_tls_mismatch_with_the_port_is_told(tls_rabbit: TLSRabbit, start_link: StartLink) -> None:
    _, at_plain = start_link(f"amqps://127.0.0.1:{tls_rabbit.tcp_port}", connect_timeout_s=1.0)
    _, at_tls = start_link(f"amqp://127.0.0.1:{tls_rabbit.tls_port}", connect_timeout_s=1.0)
    told(at_plain, TLSRefused)
    told(at_tls, BrokerUnreachable)


def test_server_that_hangs_before_tls_is_told(start_link: StartLink) -> None:
    with FakeServer(mute) as server:
        link, recorder = start_link(f"amqps://127.0.0.1:{server.port}", connect_timeout_s=0.5)
        assert "hangs" in str(told(recorder, BrokerUnreachable))
        link.stop()


def test_unreadable_authorities_file_is_a_settings_error(tmp_path: Path, place: Place) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (tmp_path / "missing.pem", empty, tmp_path):
        with pytest.raises(SettingsError, match="MIROS_CACHE_TLS_CA_FILE"):
            RabbitLink(place, [BrokerAddress.parse("amqps://localhost")], options=LinkOptions(tls_ca_file=file))
