"""Routing keys, queue names and queue arguments of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_cache_net import limits
from miros_cache_net.amqp.topology import matches
from miros_cache_net.errors import SettingsError, WrongPlace
from miros_cache_net.fleet import place as place_module
from miros_cache_net.fleet.place import (
    Place,
    binding_key,
    check_place,
    own_queue_arguments,
    parse_routing_key,
    place_of,
    request_queue_arguments,
    request_queue_name,
    routing_key,
)
from miros_cache_net.settings import Settings

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


def place(scope: str = "fleet", document: str = "cache", exchange: str = "miros.cache.exchange") -> Place:
    return Place(exchange, scope, document)


def test_a_plain_place_has_a_readable_routing_key() -> None:
    assert routing_key(place(document="lan"), "CACHE") == "cache.fleet.lan.CACHE"
    assert binding_key(place(document="lan")) == "cache.fleet.lan.*"


def test_dots_wildcards_and_everything_beyond_ascii_are_encoded() -> None:
    key = routing_key(place("lab/192.168.1.0%2F24", "a*b#c ü"), "k.")
    assert key == "cache.lab%2F192%2E168%2E1%2E0%252F24.a%2Ab%23c%20%C3%BC.k%2E"
    assert parse_routing_key(key) == ("lab/192.168.1.0%2F24", "a*b#c ü", "k.")


@given(WORDS, WORDS, WORDS)
def test_routing_key_comes_back_as_its_place(scope: str, document: str, kind: str) -> None:
    where = place(scope, document)
    try:
        key = routing_key(where, kind)
    except SettingsError:
        return
    assert key.isascii() and key.count(".") == 3 and "*" not in key and "#" not in key
    assert parse_routing_key(key) == (scope, document, kind)
    assert matches("topic", binding_key(where), key)


@given(WORDS, WORDS, WORDS, WORDS)
def test_binding_takes_only_messages_of_its_place(scope: str, document: str, other: str, another: str) -> None:
    key = routing_key(place(other, another), "CACHE")
    same = (scope, document) == (other, another)
    assert matches("topic", binding_key(place(scope, document)), key) == same


@given(WORDS, WORDS, WORDS, WORDS)
def test_two_places_never_share_a_request_queue(scope: str, document: str, other: str, another: str) -> None:
    same = request_queue_name(place(scope, document)) == request_queue_name(place(other, another))
    assert same == ((scope, document) == (other, another))


def test_fleets_on_different_exchanges_share_no_request_queue() -> None:
    assert request_queue_name(place(exchange="a")) != request_queue_name(place(exchange="b"))
    assert not request_queue_name(place(exchange="amq.topic")).startswith("amq.")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "cache",
        "cache.fleet.lan",
        "cache.fleet.lan.CACHE.more",
        "other.fleet.lan.CACHE",
        "cache..lan.CACHE",
        "cache.fleet.lan.",
        "cache.fl%65et.lan.CACHE",
        "cache.fleet.l%2fan.CACHE",
        "cache.fleet.lan.%FF",
        "cache.fleet.lan.%ED%A0%80",
        "cache.fleet.lan.ü",
        "cache.fleet.lan.*",
        "cache.fleet.lan.%",
    ],
)
def test_foreign_routing_key_is_refused(key: str) -> None:
    with pytest.raises(WrongPlace):
        parse_routing_key(key)


@pytest.mark.parametrize("bad", [place(""), place(document=""), place(exchange=""), place("\ud800"), place("s" * 250)])
def test_place_that_amqp_cannot_name_is_refused(bad: Place) -> None:
    with pytest.raises(SettingsError):
        check_place(bad)


def test_every_accepted_place_has_room_for_every_kind() -> None:
    kind = "k" * limits.KIND_BYTES
    longest = next(n for n in range(255, 0, -1) if _accepted(place("s" * n)))
    assert len(routing_key(place("s" * longest), kind)) <= 255
    assert len(request_queue_name(place("s" * longest))) <= 255
    assert longest > 150
    with pytest.raises(SettingsError):
        routing_key(place(), kind + "k")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Puts this machine into a network."""

    def put(text: str | None) -> None:
        monkeypatch.setattr(place_module, "working_network", lambda: text and ip_network(text))

    yield put


@pytest.mark.parametrize(
    ("given", "scope"),
    [
        ({}, "fleet"),
        ({"scope": "ours"}, "ours"),
        ({"site": "lab"}, "lab/192.168.1.0%2F24"),
        ({"site": "lab", "scope": "ours"}, "lab/ours"),
        ({"site": "lab", "scope": "fleet"}, "lab/fleet"),
    ],
)
def test_scope_is_given_or_a_sites_network(
    network: Callable[[str | None], None], given: dict[str, str], scope: str
) -> None:
    network("192.168.1.0/24")
    assert place_of(Settings(**given), Path("lan.json")).scope == scope


def test_a_scope_from_the_environment_counts_as_given(
    network: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    network("192.168.1.0/24")
    monkeypatch.setenv("MIROS_CACHE_SITE", "lab")
    assert place_of(Settings(), Path("lan.json")).scope == "lab/192.168.1.0%2F24"
    monkeypatch.setenv("MIROS_CACHE_SCOPE", "fleet")
    assert place_of(Settings(), Path("lan.json")).scope == "lab/fleet"


@pytest.mark.parametrize(
    ("where", "scope"),
    [("fd00:9::/64", "lab/fd00%3A9%3A%3A%2F64"), ("10.0.0.0/8", "lab/10.0.0.0%2F8"), (None, "lab/fleet")],
)
def test_any_network_makes_a_valid_scope(network: Callable[[str | None], None], where: str | None, scope: str) -> None:
    network(where)
    found = check_place(place_of(Settings(site="lab"), Path("lan.json")))
    assert found.scope == scope
    assert parse_routing_key(routing_key(found, "CACHE")).scope == scope


def _accepted(where: Place) -> bool:
    try:
        check_place(where)
    except SettingsError:
        return False
    return True


def test_queues_are_bounded_and_drop_the_oldest() -> None:
    for arguments in (own_queue_arguments(), request_queue_arguments()):
        assert arguments["x-max-length"] and arguments["x-max-length-bytes"]
        assert arguments["x-overflow"] == "drop-head"
    assert request_queue_arguments()["x-expires"] == limits.REQUEST_QUEUE_EXPIRES_MS
