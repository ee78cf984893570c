"""RabbitMQ refuses a link at its limits or for a name: its own words decide, and are told."""

from __future__ import annotations

import json

import pytest

from miros_cache_net.errors import BrokerUnreachable, ExchangeConflict, VhostRefused
from miros_cache_net.fleet.place import Place
from miros_cache_net.testing import RabbitServer
from tests.integration.rabbit_links import Links, StartLink, is_up, told


@pytest.mark.parametrize(
    ("which", "mend"), [("vhost", "clear_vhost_limits -p /"), ("user", "clear_user_limits guest max-connections")]
)
def test_a_limit_of_connections_is_named_as_such(
    which: str, mend: str, rabbit_server: RabbitServer, rabbit_url: str, start_link: StartLink
) -> None:
    limits = json.dumps({"max-connections": 0})
    whose = ("-p", "/") if which == "vhost" else ("guest",)
    rabbit_server.ctl(f"set_{which}_limits", *whose, limits)
    try:
        _, recorder = start_link(rabbit_url)
        error = str(told(recorder, BrokerUnreachable))
    finally:
        rabbit_server.ctl(f"clear_{which}_limits", *whose, *([] if which == "vhost" else ["max-connections"]))
    assert mend in error and "limit (0) is reached" in error and "add_vhost" not in error
    is_up(recorder)


def test_reserved_exchange_name_is_named_as_such(rabbit_url: str) -> None:
    links = Links(Place("amq.foo", "fleet", "cache"))
    try:
        _, recorder = links.start(rabbit_url)
        error = str(told(recorder, ExchangeConflict))
    finally:
        links.stop()
    assert "MIROS_CACHE_EXCHANGE" in error and "reserved prefix" in error and "set_permissions" not in error


def test_brokers_words_on_a_virtual_host_are_told(rabbit_url: str, start_link: StartLink) -> None:
    _, recorder = start_link(f"{rabbit_url.rpartition('/')[0]}/nowhere")
    error = str(told(recorder, VhostRefused))
    assert "530 NOT_ALLOWED" in error and "add_vhost nowhere" in error
