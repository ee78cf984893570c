"""The LAN document in its two forms: our own, and the one that programs of the older package can use."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from miros_cache_net import Settings
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.lan_file import LanFile
from miros_cache_net.document.passwords import without_passwords
from miros_cache_net.payloads import AMQPConsumerCheckPayload, CacheReadPayload
from miros_cache_net.testing import ManualClock

SETTINGS = Settings(amqp_urls="amqp://peter:s3cr3t@localhost")
OWN = "192.168.1.7"
MIXED = ["192.168.1.9:5673", "192.168.1.8", "fd00::1", "[fd00::1]:7", "alpha.lab"]


def check(address: str) -> AMQPConsumerCheckPayload:
    return AMQPConsumerCheckPayload(address, True, "#", "an.exchange")


def rendered(*addresses: str, own: str = OWN) -> dict[str, Any]:
    found = [check(each) for each in addresses]
    return lan_document.render(found, SETTINGS, seen_at=1.5, time_out_in_minutes=30, own=own, old=True)


def read(document: dict[str, Any], age_s: float) -> CacheReadPayload:
    return CacheReadPayload(document, 1.0, "", document["time_out_in_minutes"] == 0, "lan.json", age_s, "alpha", True)


def test_old_program_gets_only_plain_hosts() -> None:
    document = rendered(*MIXED)
    assert document["addresses"] == [OWN, "192.168.1.8", "alpha.lab"]
    assert document["amqp_urls"] == [f"amqp://peter@{each}:5672/%2F" for each in document["addresses"]]
    assert {key for key in document if key.startswith("peer:")} == {f"peer:{each}" for each in MIXED}


def test_our_readers_get_all_peers_of_old_form() -> None:
    assert sorted(lan_document.addresses_in(rendered(*MIXED)) or ()) == sorted([OWN, *MIXED])


def test_own_form_lists_every_peer_but_oneself() -> None:
    document = lan_document.render(map(check, MIXED), SETTINGS, seen_at=1.5, time_out_in_minutes=30)
    assert document["addresses"] == MIXED == lan_document.addresses_in(document)


@pytest.mark.parametrize("own", ["", OWN])
def test_empty_list_is_young_only_for_our_programs(own: str) -> None:
    document = rendered(own=own)
    assert (document["time_out_in_minutes"], document["addresses"]) == (0, [own] if own else [])
    assert lan_document.young_addresses_in(read(document, 59.0)) == ([own] if own else [])
    assert lan_document.young_addresses_in(read(document, 61.0)) is None


def test_who_found_nobody_looks_again_within_the_minute(tmp_path: Path) -> None:
    chart: Any = SimpleNamespace(path=tmp_path / lan_document.OLD_FILE)
    file = LanFile(chart, SETTINGS, ManualClock(), random.Random(1))
    cache = read(rendered(own=OWN), 10.0)._replace(file_path=str(chart.path))
    due_s = file.refresh_in_s(cache)
    assert due_s is not None and 0 < due_s < 50


def test_fresh_default_of_old_program_is_not_young() -> None:
    assert lan_document.young_addresses_in(read(dict(lan_document.DEFAULT), 0.1)) is None


def test_peers_come_and_go_in_the_old_form() -> None:
    document = rendered("192.168.1.8")
    document.update(lan_document.with_peer(document, SETTINGS, check("192.168.1.9:5673"), seen_at=2.0, old=True))
    document.update(lan_document.with_peer(document, SETTINGS, check("192.168.1.9"), seen_at=2.0, old=True))
    assert document["addresses"] == [OWN, "192.168.1.8", "192.168.1.9"]
    changes, deleted = lan_document.without(document, SETTINGS, "192.168.1.9:5673", old=True)
    assert (changes["addresses"], deleted) == (document["addresses"], ["peer:192.168.1.9:5673"])


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (
            "amqp://bob:dobbs@10.0.0.9:5672/%2F?connection_attempts=3",
            "amqp://bob@10.0.0.9:5672/%2F?connection_attempts=3",
        ),
        ("amqp://bob:p@ss:w/o?r#d@10.0.0.9:5672/%2F", "amqp://bob@10.0.0.9:5672/%2F"),
        ("AMQPS://bob:dobbs@10.0.0.9", "AMQPS://bob@10.0.0.9"),
        ("amqp://bob:two\nlines@10.0.0.9", "amqp://bob@10.0.0.9"),
        ("amqp://bob@10.0.0.9:5672/%2F", "amqp://bob@10.0.0.9:5672/%2F"),
        ("amqp://10.0.0.9:5672", "amqp://10.0.0.9:5672"),
        (7, 7),
    ],
)
def test_no_password_is_left_in_a_url(url: Any, left: Any) -> None:
    assert without_passwords({"amqp_urls": [url], "note": "a:b@c"}) == {"amqp_urls": [left], "note": "a:b@c"}
