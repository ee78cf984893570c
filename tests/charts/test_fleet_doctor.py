"""What `doctor` says of a fleet of real nodes, and what it says where they disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.cli.checks.finding import FAILED, OK, WARNING, Finding
from miros_cache_net.cli.checks.fleet_checks import check_fleet, compared
from miros_cache_net.cli.checks.host_checks import check_host
from miros_cache_net.fleet.place import document_topology
from miros_cache_net.node_status import NodeStatus, status_from
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import Fleet, wait_until


def examined(hosts: Fleet) -> dict[str, Finding]:
    assert isinstance(hosts.broker, MemoryBroker)
    broker, settings = hosts.broker, hosts.settings("host-0")
    findings, _ = check_fleet(
        settings, Path(settings.file), lambda _, place: MemoryLink(broker, document_topology(place))
    )
    return {finding.check: finding for finding in findings}


def said(node: str, **fields: Any) -> NodeStatus:
    whole = {"connected": True, "version": "v1", "keys": ["k1"], "release": "1.0", "format": 2, "ahead_s": 0.0}
    return status_from({"node": node, **whole, **fields})


def found(*nodes: NodeStatus, before: tuple[NodeStatus, ...] = ()) -> dict[str, Finding]:
    return {finding.check: finding for finding in compared(before or nodes, nodes)}


def test_a_fleet_that_is_well_draws_no_complaint(fleet: Any) -> None:
    hosts = fleet(3)
    hosts[0].write({"a": 1})
    hosts.agree()
    findings = examined(hosts)
    assert {finding.outcome for finding in findings.values()} == {OK}
    assert set(findings) == {"answers", "documents", "clocks", "release", "keys"}


@pytest.mark.parametrize("skew_s", [-3600, -299, 299, 3600])
def test_node_with_a_clock_off_fails(skew_s: int, fleet: Any) -> None:
    hosts = fleet(3)
    hosts[1].skew(skew_s)
    clocks = examined(hosts)["clocks"]
    side = "ahead of" if skew_s > 0 else "behind"
    assert clocks.outcome == FAILED
    assert "that of host-1-" in clocks.detail and f"{abs(skew_s)} s {side} this machine's" in clocks.detail
    assert "that of host-2-" not in clocks.detail and "chrony" in clocks.fix


def test_node_with_a_full_disk_fails(fleet: Any) -> None:
    hosts = fleet(2)
    hosts[1].fill_disk()
    try:
        disk = examined(hosts)["disk"]
    finally:
        hosts[1].free_disk()
    assert disk.outcome == FAILED and disk.detail.startswith("host-1-") and "no space left" in disk.detail
    wait_until(lambda: "disk" not in examined(hosts), what="the disk to be well again")


def test_host_with_another_key_is_noticed_by_the_others(fleet: Any) -> None:
    hosts = fleet(2)
    hosts.add("stranger", keys=generate_key().decode(), wait=False)
    wait_until(lambda: hosts[1].status()["counters"].get("refused_not_authentic"), what="the others to refuse it")
    refused = examined(hosts)["refused"]
    assert refused.outcome == WARNING and "in another key" in refused.detail and "key list" in refused.fix


def test_own_clock_is_named_where_most_others_agree() -> None:
    clocks = found(said("a", ahead_s=300.0), said("b", ahead_s=301.0), said("c", ahead_s=299.5))["clocks"]
    assert clocks.outcome == FAILED
    assert clocks.detail == "this machine's clock is 300 s behind those of 3 of 3 nodes"
    assert clocks.fix == "set this machine's clock (chrony, NTP)"


@pytest.mark.parametrize(
    ("check", "outcome", "fields"),
    [
        ("documents", FAILED, {"version": "v2"}),
        ("clocks", FAILED, {"ahead_s": -299.0}),
        ("clocks", WARNING, {"ahead_s": 20.0}),
        ("release", WARNING, {"release": "0.9"}),
        ("release", WARNING, {"release": ""}),
        ("format", FAILED, {"format": 1}),
        ("keys", FAILED, {"keys": ["k2"]}),
        ("keys", WARNING, {"keys": ["k1", "k2"]}),
        ("trouble", FAILED, {"trouble": "lost its way"}),
        ("disk", FAILED, {"checks": [{"name": "disk", "ok": False, "detail": "is full"}], "trouble": "is full"}),
    ],
)
def test_disagreement_is_told_with_a_fix(check: str, outcome: str, fields: dict[str, Any]) -> None:
    findings = found(said("alpha-1"), said("beta-2", **fields))
    wrong = {name: finding.outcome for name, finding in findings.items() if finding.outcome != OK}
    assert wrong == {check: outcome}
    assert "beta-2" in findings[check].detail and findings[check].fix


def test_documents_that_just_change_are_no_failure() -> None:
    before = said("alpha-1", version="v0"), said("beta-2", version="v0")
    findings = found(said("alpha-1"), said("beta-2", version="v0"), before=before)
    assert findings["documents"].outcome == WARNING and "changing at this moment" in findings["documents"].detail


def test_bridge_lock_without_a_socket_is_found(fleet: Any) -> None:
    hosts = fleet(1)
    path = hosts[0].settings.file
    assert [finding.outcome for finding in check_host(Path(path))] == [OK]
    for socket in Path(path).parent.glob(".bridge-*.sock"):
        socket.unlink()
    (finding,) = check_host(Path(path))
    assert finding.outcome == FAILED and "has no socket" in finding.detail and finding.fix
