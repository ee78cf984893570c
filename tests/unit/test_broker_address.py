"""Broker URLs: what is read from them, what is refused, and that no text form shows a password."""

from __future__ import annotations

import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings import Settings
from miros_cache_net.settings.broker_address import BrokerAddress, Secret


def test_a_full_url_gives_every_part() -> None:
    address = BrokerAddress.parse("amqps://alice:s%40cret%2F@broker.example:5999/site%2Fa?heartbeat=5")
    assert (address.host, address.port, address.vhost, address.user, address.tls) == (
        "broker.example",
        5999,
        "site/a",
        "alice",
        True,
    )
    assert address.password.reveal() == "s@cret/"


@pytest.mark.parametrize(
    ("text", "port"),
    [("amqp://host", 5672), ("amqps://host", 5671), ("AMQP://host/", 5672), ("amqp://host:1", 1)],
)
def test_missing_port_and_vhost_have_defaults(text: str, port: int) -> None:
    address = BrokerAddress.parse(text)
    assert (address.port, address.vhost, address.user, bool(address.password)) == (port, "/", "", False)


def test_ipv6_address_has_brackets_only_in_the_url() -> None:
    address = BrokerAddress.parse("amqp://u:p@[fe80::1]:5673/v")
    assert address.host == "fe80::1"
    assert address.redacted == "amqp://u@[fe80::1]:5673/v"
    assert BrokerAddress.parse(address.redacted).with_credentials("", "p") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:5672",
        "http://u:hunter2@host",
        "amqp://",
        "amqp://u:hunter2@",
        "amqp://u:hunter2@:5672",
        "amqp://u:hunter2@host:port",
        "amqp://u:hunter2@host:0",
        "amqp://u:hunter2@host:65536",
        "amqp://u:hunter2@host:-1",
        "amqp://u:hunter2@[::1",
        "amqp://u:hunter2@::1]",
        "amqp://u:hunter2@host/a/b",
        "amqp://u:hunter2@host/%FF",
        "amqp://u:%FFhunter2@host",
        "amqp://u:hunter2 @host",
        "amqp://u:hunter2\x00@host",
        "amqp://u:1/hunter2@host",
        "amqp://u:1?hunter2@host",
        "amqp://u:1#hunter2@host",
        "amqp://u:hunter2/@host",
        "amqp://u:hunter2@host/" + "v" * 256,
    ],
)
def test_malformed_url_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        BrokerAddress.parse(text)
    shown = "".join(traceback.format_exception(refused.value)).replace(repr(text), "")
    assert "hunter2" not in str(refused.value)
    assert "ValueError" not in shown
    assert "\n" not in str(refused.value)
    assert "amqp://" in str(refused.value)


def test_address_text_never_shows_its_password() -> None:
    address = BrokerAddress.parse("amqp://u:hunter2@host/v")
    for shown in (str(address), repr(address), address.redacted, f"{address.password}", repr([address.password])):
        assert "hunter2" not in shown
    assert str(address) == "amqp://u@host:5672/v"


def test_credentials_fill_in_only_what_is_missing() -> None:
    fill = ("bob", "pw")
    assert BrokerAddress.parse("amqp://h").with_credentials(*fill).password.reveal() == "pw"
    named = BrokerAddress.parse("amqp://alice@h").with_credentials(*fill)
    assert (named.user, named.password.reveal()) == ("alice", "pw")
    whole = BrokerAddress.parse("amqp://alice:own@h")
    assert whole.with_credentials("bob", Secret("pw")) == whole


def test_addresses_and_secrets_are_values() -> None:
    one, other = (BrokerAddress.parse("amqp://u:p@h") for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one != BrokerAddress.parse("amqp://u:q@h")
    assert pickle.loads(pickle.dumps(one)) == one


@given(st.text(max_size=60))
def test_any_text_is_address_or_settings_error(text: str) -> None:
    for candidate in (text, "amqp://" + text, "amqp://u:p@" + text):
        try:
            address = BrokerAddress.parse(candidate)
        except SettingsError:
            continue
        assert BrokerAddress.parse(address.redacted).redacted == address.redacted


def test_comma_in_password_is_named_with_its_code() -> None:
    for password in ("hunter,fourteen", "12,fourteen"):
        with pytest.raises(SettingsError, match="%2C") as refused:
            Settings(amqp_urls=f"amqp://u:{password}@broker.example:5672")
        assert "hunter" not in str(refused.value) and "fourteen" not in str(refused.value)
