"""`miros-cache-net status`."""

from __future__ import annotations

import shutil
from typing import Final

import click

from miros_cache_net.cli import node_text
from miros_cache_net.cli.cache_file import count_text, file_errors, file_option, json_option, payload_json
from miros_cache_net.cli.completing import nodes as known_nodes
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.output import print_fields, print_json, print_line, print_table, told_if_slow
from miros_cache_net.errors import CacheNetError
from miros_cache_net.node_status import NodeStatus

#: Below this many columns a table of this width cannot be read.
_TABLE_COLUMNS: Final = 80
_COLUMNS: Final = (
    "node", "host", "state", "document", "age", "expires", "clock", "lag", "version", "up", "keys", "broker"
)  # fmt: skip


@click.command("status")
@click.argument("names", metavar="[NODE...]", nargs=-1, shell_complete=known_nodes)
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
@click.option(
    "--expect",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    help="How many nodes must answer for exit code 0.",
)
@json_option
def command(names: tuple[str, ...], file_path: str | None, timeout_s: float, expect: int, as_json: bool) -> int:
    """Show every node of the fleet that answers.

    First comes this machine's file, also where no broker can be reached.
    For each node: the state of its chart, which document it has, how old
    that is and when it expires, how far its clock is from this machine's where that matters, how long the last change
    took to get there, its release, how long it has been up, its keys (the first encrypts) and its broker.  Below, its
    trouble, and what it has refused, lost or reported since it started (--json has all counters).  On a terminal of
    less than 80 columns each node has a block of lines instead.
    The exit code is 1 unless somebody answers (with --expect: N nodes or more), all have the same version, and nothing
    keeps one from the fleet.
    With NODE only these are shown, and each of them has to answer.

    \b
    Examples:
      miros-cache-net status
      miros-cache-net status --expect 3 > /dev/null && echo "all three are there and agree"
      miros-cache-net status alpha-1f2e3d4c
      miros-cache-net status --json | jq -r '.nodes[] | "\\(.node) \\(.release) \\(.uptime_s)"'
    """
    from miros_cache_net.cache import read_cache
    from miros_cache_net.cli.fleet_settings import load_settings, silence_line
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings.which_file import cache_path

    settings = load_settings(file_path)
    path = cache_path(settings.file)
    with file_errors(path):
        here = read_cache(path)
    file = {name: value for name, value in payload_json(here).items() if name != "dict"}
    if not as_json:
        print_line(f"this file: {here.file_path}, {node_text.short_version(here.version)}, {age_line(here)}")
    try:
        with told_if_slow("asking the fleet"), FleetClient(settings, path) as client:
            answers = client.fleet.statuses(timeout_s)
            silent = "" if answers else silence_line(client)
    except CacheNetError:
        if as_json:
            print_json({"file": file, "nodes": []})
        raise
    nodes = [node for node in answers if not names or node["node"] in names]
    absent = sorted(set(names) - {node["node"] for node in nodes})
    if as_json:
        print_json({"file": file, "nodes": nodes})
    elif nodes or silent:
        _show(nodes, silent)
        if nodes and len(nodes) < expect:
            say(f"{count_text(expect, 'node')} expected, {len(nodes)} answered")
    if absent and answers:
        say(f"no answer from {', '.join(absent)}")
    versions = {node["version"] for node in nodes}
    is_well = len(versions) == 1 and not absent and not any(node["trouble"] for node in nodes)
    return Exit.DONE if is_well and len(nodes) >= expect else Exit.NO


def _show(nodes: list[NodeStatus], silent: str) -> None:
    if not nodes:
        say(silent)
        return
    versions = {node["version"] for node in nodes}
    agree = "all have the same document" if len(versions) == 1 else f"{len(versions)} different documents"
    print(f"{count_text(len(nodes), 'node')}, {agree}\n")
    rows = [_row(node, nodes) for node in nodes]
    is_narrow = shutil.get_terminal_size((_TABLE_COLUMNS, 0)).columns < _TABLE_COLUMNS
    if not is_narrow:
        print_table(_COLUMNS, rows)
    for node, row in zip(nodes, rows, strict=True):
        notes = {"trouble": node["trouble"], "counted": node_text.counted_text(node)}
        if is_narrow:
            print_fields(row[0], {**dict(zip(_COLUMNS[1:], row[1:], strict=True)), **notes})
            continue
        for name, note in notes.items():
            if note:
                print_line(f"{row[0]}{'' if name == 'trouble' else f' {name}'}: {note}")


def _row(node: NodeStatus, nodes: list[NodeStatus]) -> tuple[str, ...]:
    return (
        node_text.name_text(node),
        node["host"],
        node_text.state_text(node),
        node_text.document_text(node),
        node_text.age_text(node),
        node_text.expiry_text(node),
        node_text.clock_text(node),
        node_text.lag_text(node, nodes),
        node["release"],
        node_text.uptime_text(node),
        " ".join(node["keys"]),
        node["broker"],
    )
