"""`miros-cache-net status`."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from miros_cache_net.cli.cache_file import count_text, file_errors, file_option, json_option, payload_json
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.exits import Exit, printable, say
from miros_cache_net.cli.output import duration_text, print_json, print_table, told_if_slow
from miros_cache_net.payloads import CacheReadPayload

#: What an answer may take on its way before its clock is said to differ; the client waits as long for answers.
_CLOCK_NOISE_S: Final = 5.0
#: Of a node's counters: what a person wants to know of; ``--json`` has them all.
_TROUBLES: Final = (
    "refused_",
    "reported_",
    "links_failed",
    "sendings_lost",
    "answers_refused",
    "received_dropped",
    "followers_dropped",
)
_COLUMNS: Final = ("node", "host", "role", "link", "document", "age", "keys", "clock", "broker")


@click.command("status")
@file_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    default=2.0,
    show_default=True,
    help="How long to wait for answers.",
)
@json_option
def command(file_path: str | None, timeout_s: float, as_json: bool) -> int:
    """Show every node of the fleet that answers.

    First comes this machine's file.  For each node: its link, which version of the document it has and how old
    that is, its keys (the first encrypts), and how far its clock is from this machine's where that matters.  Below,
    what keeps it from the fleet, and what it has refused, lost or reported since it started (--json has all counters).
    The exit code is 1 unless somebody answers, all have the same version, and nothing keeps one from the fleet.

    \b
    Examples:
      miros-cache-net status
      miros-cache-net status --json | jq -r '.nodes[] | "\\(.node) \\(.version)"'
    """
    from miros_cache_net.cache import read_cache
    from miros_cache_net.cli.fleet_settings import load_settings, silence_line
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings.which_file import cache_path

    settings = load_settings(file_path)
    path = cache_path(settings.file)
    with file_errors(path):
        here = read_cache(path)
    with told_if_slow("asking the fleet"), FleetClient(settings, path) as fleet:
        nodes = fleet.statuses(timeout_s)
        silent = "" if nodes else silence_line(fleet)
    if as_json:
        file = {name: value for name, value in payload_json(here).items() if name != "dict"}
        print_json({"file": file, "nodes": nodes})
    else:
        _show(here, nodes, silent)
    versions = {node.get("version") for node in nodes}
    return Exit.DONE if len(versions) == 1 and not any(node.get("trouble") for node in nodes) else Exit.NO


def _show(here: CacheReadPayload, nodes: list[dict[str, Any]], silent: str) -> None:
    click.echo(printable(f"this file: {here.file_path}, {_short(here.version)}, {age_line(here)}"))
    if not nodes:
        say(silent)
        return
    versions = {str(node.get("version")) for node in nodes}
    agree = "all have the same document" if len(versions) == 1 else f"{len(versions)} different documents"
    click.echo(f"{count_text(len(nodes), 'node')}, {agree}\n")
    now_s = time.time()
    print_table(_COLUMNS, [_row(node, now_s) for node in nodes])
    for node in nodes:
        if trouble := node.get("trouble"):
            click.echo(printable(f"{node.get('node', '?')}: {trouble}"))
        if troubles := _troubles(node.get("counters")):
            click.echo(printable(f"{node.get('node', '?')} counted: {troubles}"))


def _row(node: dict[str, Any], now_s: float) -> tuple[str, ...]:
    clock_ms, age_s = (_number(node.get(name)) for name in ("clock_ms", "age_s"))
    ahead_s = 0.0 if clock_ms is None else clock_ms / 1000 - now_s
    clock = "" if abs(ahead_s) < _CLOCK_NOISE_S else f"{ahead_s:+.0f} s"
    age = "" if age_s is None else duration_text(age_s)
    return (
        str(node.get("node", "?")),
        str(node.get("host", "")),
        str(node.get("role", "")),
        "up" if node.get("connected") else "down",
        _short(str(node.get("version") or "")),
        f"{age}, expired" if age and node.get("expired") else age,
        " ".join(map(str, node.get("keys") or ())),
        clock,
        str(node.get("broker") or ""),
    )


def _troubles(counters: object) -> str:
    known = counters.items() if isinstance(counters, dict) else ()
    return ", ".join(
        f"{name.replace('_', ' ')} {number}" for name, number in known if number and name.startswith(_TROUBLES)
    )


def _number(value: object) -> float | None:
    """Another release may say something else."""
    return float(value) if isinstance(value, (int, float)) else None


def _short(version: str) -> str:
    return version[:8] or "none"
