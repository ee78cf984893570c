"""How a peer is named, who logs in there, and who may be told the password."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pika
import pytest

from miros_cache_net.discovery import peers
from miros_cache_net.discovery.peers import connection_url, peer_broker, redacted_url, split_peer, trusted
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.settings import Settings

PASSWORD = "p@ss:w/rd"
PASSWORD_IN_URL = "p%40ss%3Aw%2Frd"


def settings(*urls: str, **fields: Any) -> Settings:
    return Settings(amqp_urls=urls, rabbit_user="u ser", rabbit_password=PASSWORD, **fields)


@pytest.mark.parametrize(
    ("peer", "host", "port"),
    [
        ("alpha", "alpha", None),
        ("alpha.lan:5673", "alpha.lan", 5673),
        ("10.0.0.1", "10.0.0.1", None),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("::1", "::1", None),
        ("fe80::1%eth0", "fe80::1%eth0", None),
        ("[::1]", "::1", None),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_peer_is_a_host_with_optional_port(peer: str, host: str, port: int | None) -> None:
    assert split_peer(peer) == (host, port)


@pytest.mark.parametrize(
    "peer",
    [
        "",
        ":5672",
        "host:",
        "host:0",
        "host:65536",
        "host:5672x",
        "host:٣",
        "u@host",
        "amqp://host",
        "a b",
        "[::1",
        "a\n",
    ],
)
def test_invalid_peer_is_refused_in_one_line(peer: str) -> None:
    with pytest.raises(ValueError, match=r"no host|no port") as caught:
        split_peer(peer)
    assert "\n" not in str(caught.value)


def test_peer_differs_from_first_broker_by_address() -> None:
    broker = peer_broker(settings("amqps://bob:pw@broker:5999/v"), "10.0.0.9")
    assert (broker.host, broker.port, broker.vhost, broker.user, broker.tls) == ("10.0.0.9", 5999, "v", "bob", True)
    assert broker.password.reveal() == "pw"


def test_port_in_the_address_goes_before_another() -> None:
    one = settings("amqp://broker:5999")
    assert peer_broker(one, "h:7", 8).port == 7
    assert peer_broker(one, "h", 8).port == 8
    with pytest.raises(ValueError, match="port"):
        peer_broker(one, "h", 65536)


def test_broker_of_the_settings_keeps_its_own_login() -> None:
    two = settings("amqp://a:1@first", "amqps://b:2@second:5999/v")
    assert peer_broker(two, "second") == two.amqp_urls[1]
    assert peer_broker(two, "second:5999") == two.amqp_urls[1]
    assert peer_broker(two, "second:5998").user == "a"


def test_untrusted_address_gets_a_url_without_password() -> None:
    one = settings("amqp://broker", trusted_networks="10.1.0.0/16")
    assert connection_url(one, "10.2.0.1") == "amqp://u%20ser@10.2.0.1:5672/%2F"
    assert connection_url(one, "10.1.0.1") == "amqp://u%20ser:p%40ss%3Aw%2Frd@10.1.0.1:5672/%2F"
    # a name is whatever DNS says it is
    assert PASSWORD not in connection_url(one, "stranger") and "p%40" not in connection_url(one, "stranger")
    assert "p%40" not in redacted_url(one, "10.1.0.1")


def test_broker_of_the_settings_gets_its_password_anywhere() -> None:
    assert connection_url(settings("amqp://b:2@192.0.2.1/v"), "192.0.2.1") == "amqp://b:2@192.0.2.1:5672/v"


def test_only_verified_tls_earns_the_password_anywhere() -> None:
    assert ":2@" in connection_url(settings("amqps://b:2@broker"), "192.0.2.1")
    assert ":2@" not in connection_url(settings("amqps://b:2@broker", tls_verify=False), "192.0.2.1")


def test_pika_reads_the_url_as_it_was_meant() -> None:
    url = connection_url(settings("amqp://broker/a%2Fb", trusted_networks="::/0"), "[fd00::1]:5999")
    parameters = pika.URLParameters(url)
    assert (parameters.host, parameters.port, parameters.virtual_host) == ("fd00::1", 5999, "a/b")
    assert (parameters.credentials.username, parameters.credentials.password) == ("u ser", PASSWORD)


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback_alone_is_trusted_by_default(address: str, is_trusted: bool) -> None:
    assert trusted(address) is is_trusted
    assert trusted(address, ()) is False


def test_auto_trusts_only_this_machines_own_subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "own_networks", lambda: (ip_network("10.1.0.0/24"), ip_network("fe80::/64")))
    auto = settings("amqp://broker", trusted_networks="auto,192.0.2.0/24")
    for peer in ("10.1.0.9", "192.0.2.9", "127.0.0.1"):
        assert PASSWORD_IN_URL in connection_url(auto, peer)
        assert trusted(peer, target_for(auto, peer, "mesh").networks)
    assert PASSWORD_IN_URL not in connection_url(auto, "10.1.1.9")
    assert not trusted("10.1.1.9", target_for(auto, "10.1.1.9", "mesh").networks)
    plain = settings("amqp://broker", trusted_networks="192.0.2.0/24")
    assert PASSWORD_IN_URL not in connection_url(plain, "10.1.0.9")
    assert not trusted("10.1.0.9", target_for(plain, "10.1.0.9", "mesh").networks)
