"""Is the fleet well?  Every node is asked, twice: the second time shows what was not only under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from miros_cache_net import limits
from miros_cache_net.cli.cache_file import count_text
from miros_cache_net.cli.checks.finding import OK, SKIPPED, Finding, failed, warning
from miros_cache_net.cli.fleet_settings import silence_line
from miros_cache_net.cli.node_text import CLOCK_NOISE_S, name_text, short_version
from miros_cache_net.errors import BrokerError
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.fleet.health import CLOCK
from miros_cache_net.fleet.links import LinkFactory, rabbit_link
from miros_cache_net.node_status import NodeStatus

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

_ANSWERS: Final = "answers"
_CLOCKS: Final = "clocks"
_FAR_S: Final = limits.CLOCK_AHEAD_MS / 1000
_TWO: Final = 2


def check_fleet(
    settings: Settings, path: Path, link_factory: LinkFactory = rabbit_link
) -> tuple[list[Finding], list[NodeStatus]]:
    """Ask every node for its status, and compare; also returns what they said.

    Raises `SettingsError` if there is no usable key.
    """
    try:
        with FleetClient(settings, path, link_factory=link_factory) as client:
            servers = None if client.up is None else client.up.request_servers
            before = client.fleet.statuses()
            nodes = client.fleet.statuses() if before else []
            silence = silence_line(client)
    except BrokerError:
        return [Finding(_ANSWERS, SKIPPED, "needs the link to the broker")], []
    if not nodes:
        found = failed(_ANSWERS, silence) if servers else Finding(_ANSWERS, OK, "no other host to ask")
        return [found], []
    return [*_silent(nodes, servers), *_refusals(nodes), *compared(before, nodes)], nodes


def compared(before: Sequence[NodeStatus], nodes: Sequence[NodeStatus]) -> list[Finding]:
    """What nodes, asked twice, say of themselves and of each other."""
    clocks, off = _clocks(nodes)
    findings = [_documents(before, nodes), clocks, *_releases(nodes), *_keys(nodes)]
    findings += [finding for node in nodes for finding in _of_node(node, off)]
    in_step = sum(node["connected"] for node in nodes)
    text = f"{count_text(in_step, 'node')} in step with the fleet"
    answers = Finding(_ANSWERS, OK, text) if in_step else failed(_ANSWERS, f"none of {len(nodes)} nodes is in step")
    return [answers, *findings]


def _silent(nodes: Sequence[NodeStatus], servers: int | None) -> list[Finding]:
    if servers is None or servers <= len(nodes):
        return []
    return [warning("silent", f"{count_text(servers, 'host')} linked to the broker, but only {len(nodes)} answered")]


def _refusals(nodes: Sequence[NodeStatus]) -> list[Finding]:
    return refusing({name_text(node): in_another_key(node) for node in nodes}, "it started")


def refusing(counts: Mapping[str, int], since: str) -> list[Finding]:
    """A host with another key does not answer; those that hear it count what they refuse: so many, by node."""
    said = [f"{name} has refused {count_text(count, 'message')}" for name, count in counts.items() if count > 0]
    return [warning("refused", f"in another key since {since}: {', '.join(said)}")] if said else []


def in_another_key(node: NodeStatus) -> int:
    """How many messages the node has refused because it lacks their key."""
    return node["counters"].get("refused_not_authentic", 0)


def _documents(before: Sequence[NodeStatus], nodes: Sequence[NodeStatus]) -> Finding:
    """Documents differ only where no node's has changed since it was first asked: a write may be under way."""
    versions = Counter(node["version"] for node in nodes)
    if len(versions) == 1:
        return Finding("documents", OK, f"all have {short_version(nodes[0]['version'])}")
    held = ", ".join(f"{name_text(node)} has {short_version(node['version'])}" for node in nodes)
    if {(node["node"], node["version"]) for node in before} != {(node["node"], node["version"]) for node in nodes}:
        return warning("documents", f"they are changing at this moment: {held}")
    return failed("documents", f"{len(versions)} different documents: {held}")


def _clocks(nodes: Sequence[NodeStatus]) -> tuple[Finding, bool]:
    """How far the nodes' clocks are from this machine's, and whether one is too far off."""
    ahead_s = {name_text(node): node["ahead_s"] for node in nodes if node["ahead_s"] is not None}
    far = {name: s for name, s in ahead_s.items() if abs(s) > _FAR_S}
    # one of two may be the wrong one; more that agree are right
    if len(far) >= _TWO and 2 * len(far) > len(ahead_s) and max(far.values()) - min(far.values()) < _FAR_S:
        apart_s, side = min(map(abs, far.values())), "behind" if next(iter(far.values())) > 0 else "ahead of"
        agreeing = f"those of {len(far)} of {count_text(len(ahead_s), 'node')}"
        text = f"this machine's clock is {apart_s:.0f} s {side} {agreeing}"
        return failed(_CLOCKS, text, "set this machine's clock (chrony, NTP)"), True
    if far:
        return failed(_CLOCKS, _apart(far)), True
    if off := {name: s for name, s in ahead_s.items() if abs(s) > CLOCK_NOISE_S}:
        return warning(_CLOCKS, _apart(off)), False
    text = f"{count_text(len(ahead_s), 'node')} within {CLOCK_NOISE_S:g} s of this machine's"
    return Finding(_CLOCKS, OK, text), False


def _releases(nodes: Sequence[NodeStatus]) -> Iterator[Finding]:
    for check, name, say in (("format", "format", failed), ("release", "release", warning)):
        said = {name_text(node): str(node[name] or "not told") for node in nodes}  # type: ignore[literal-required]
        if len(set(said.values())) > 1:
            yield say(check, ", ".join(f"{node} has {value}" for node, value in said.items()))
    if len({node["release"] for node in nodes}) == 1 and nodes[0]["release"]:
        yield Finding("release", OK, f"all run {nodes[0]['release']}")


def _keys(nodes: Sequence[NodeStatus]) -> Iterator[Finding]:
    rings = {name_text(node): node["keys"] for node in nodes}
    lacking = [
        f"{name} cannot read {other}, which encrypts with {ring[0]}"
        for other, ring in rings.items()
        for name, own in rings.items()
        if ring and ring[0] not in own
    ]
    if lacking:
        yield failed("keys", "; ".join(lacking))
    elif len({tuple(ring) for ring in rings.values()}) > 1:
        held = ", ".join(f"{name} has {' '.join(ring)}" for name, ring in rings.items())
        yield warning("keys", f"a rotation is under way, or was left half-way: {held}")
    else:
        yield Finding("keys", OK, f"all hold {' '.join(nodes[0]['keys'])}")


def _of_node(node: NodeStatus, clocks_told: bool) -> Iterator[Finding]:
    """What the node reports of itself, in the words of `health`; of clocks only if they are not told already."""
    wrong = [check for check in node["checks"] if not check["ok"]]
    for check in wrong:
        if check["name"] != CLOCK or not clocks_told:
            yield failed(check["name"] or "trouble", f"{name_text(node)}: {check['detail']}")
    told = " ".join(check["detail"] for check in wrong)
    about_clock = "has a clock that is" in node["trouble"] and clocks_told
    if node["trouble"] and node["trouble"] not in told and not about_clock:
        yield failed("trouble", f"{name_text(node)}: {node['trouble']}")


def _apart(ahead_s: dict[str, float]) -> str:
    said = (f"that of {name} is {abs(s):.0f} s {'ahead of' if s > 0 else 'behind'}" for name, s in ahead_s.items())
    return f"{', '.join(said)} this machine's"
