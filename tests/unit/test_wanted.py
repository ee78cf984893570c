"""Whom a discovery asks, and who may be dialled because another host said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miros_cache_net.discovery.wanted import is_configured, wanted_by
from miros_cache_net.settings import Settings


@pytest.fixture
def hosts_file(tmp_path: Path) -> str:
    (tmp_path / "hosts.json").write_text(json.dumps({"hosts": ["alpha.lab", "192.0.2.9:5673"]}))
    return str(tmp_path / "hosts.json")


def test_nobody_named_means_this_machines_networks() -> None:
    wanted = wanted_by(Settings())
    assert (list(wanted.named()), wanted.sweeps) == ([], True)


def test_hosts_are_asked_and_networks_only_if_wanted(
    hosts_file: str,
) -> None:
    for discover, hosts, sweeps in (
        ("beta.lab,10.0.0.7:5673", ["beta.lab", "10.0.0.7:5673"], False),
        ("auto", [], True),
        ("auto,beta.lab", ["beta.lab"], True),
    ):
        wanted = wanted_by(Settings(discover=discover))
        assert (list(wanted.named()), wanted.sweeps) == (hosts, sweeps)
        both = wanted_by(Settings(discover=discover, hosts_file=hosts_file))
        assert (list(both.named()), both.sweeps) == ([*hosts, "alpha.lab", "192.0.2.9:5673"], sweeps)
    assert not wanted_by(Settings(hosts_file=hosts_file)).sweeps


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        ("127.0.0.9:5673", True),
        ("198.51.100.7", True),
        ("beta.lab:5699", True),
        ("alpha.lab", True),
        ("broker.lab", True),
        ("203.0.113.7", False),
        ("gamma.lab", False),
        ("no address at all", False),
        ("", False),
    ],
)
def test_message_makes_nobody_dial_an_unconfigured_peer(hosts_file: str, peer: str, may: bool) -> None:
    settings = Settings(
        discover="beta.lab",
        hosts_file=hosts_file,
        amqp_urls="amqp://broker.lab",
        trusted_networks="127.0.0.0/8,198.51.100.0/24",
    )
    assert is_configured(settings, peer) is may
