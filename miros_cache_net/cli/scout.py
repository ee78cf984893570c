"""`miros-cache-net scout`."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from miros_cache_net.cli.cache_file import json_option
from miros_cache_net.cli.completing import hosts as known_hosts
from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.fleet_settings import load_settings
from miros_cache_net.cli.output import counting, print_json, print_table
from miros_cache_net.errors import SettingsError

if TYPE_CHECKING:
    from miros_cache_net.discovery.probe.prober import ProbeResult, ProbeTarget


@click.command("scout")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=known_hosts)
@json_option
def command(hosts: tuple[str, ...], as_json: bool) -> int:
    """Say whether each HOST has a usable RabbitMQ, and if not, why.

    A HOST is a name or an address, with :PORT where the port differs from that of the fleet's own broker.
    It is tested step by step: TCP, AMQP, RabbitMQ, login, virtual host, exchange.  Nothing is published or
    declared there.  The password goes only to brokers named in the settings, to trusted networks, or over
    verified TLS.  The exit code is 1 unless every answer is yes.

    \b
    Examples:
      miros-cache-net scout 192.168.1.10
      miros-cache-net scout alpha.lab beta.lab:5673 [2001:db8::7]:5672
      miros-cache-net scout --json 192.168.1.10 | jq -r .[].reason
    """
    if any("@" in host or "://" in host for host in hosts):
        raise SettingsError("a HOST is host or host:port, not a URL; user and password come from the settings")
    results = _probe(_targets(hosts), hosts)
    if as_json:
        print_json([_json(host, result) for host, result in zip(hosts, results, strict=True)])
    else:
        rows = [_row(host, result) for host, result in zip(hosts, results, strict=True)]
        print_table(("host", "usable", "reason", "connect", "detail"), rows)
    return Exit.DONE if all(result.ok for result in results) else Exit.NO


def _targets(hosts: Sequence[str]) -> list[ProbeTarget]:
    from miros_cache_net.discovery.probe.target import target_for

    settings = load_settings(None)
    try:
        return [target_for(settings, host, settings.exchange) for host in hosts]
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _probe(targets: Sequence[ProbeTarget], hosts: Sequence[str]) -> list[ProbeResult]:
    """Probe the targets and return the results in their order; progress on a terminal."""
    from miros_cache_net.discovery.probe.prober import Prober

    answers: queue.SimpleQueue[tuple[int, ProbeResult]] = queue.SimpleQueue()
    prober = Prober()
    try:
        for number, target in enumerate(targets):
            prober.probe(target, lambda result, number=number: answers.put((number, result)))  # type: ignore[misc]
        results: dict[int, ProbeResult] = {}
        with counting("asking", len(targets)) as answered:
            while len(results) < len(targets):
                number, result = answers.get()
                results[number] = result
                answered(hosts[number])
    finally:
        prober.close()
    return [results[number] for number in range(len(targets))]


def _row(host: str, result: ProbeResult) -> tuple[str, ...]:
    connect = "" if result.round_trip_s is None else f"{result.round_trip_s * 1000:.1f} ms"
    return host, "yes" if result.ok else "no", result.verdict.value, connect, result.detail


def _json(host: str, result: ProbeResult) -> dict[str, Any]:
    return {
        "host": host,
        "result": result.ok,
        "reason": result.verdict.value,
        "detail": result.detail,
        "address": result.address,
        "port": result.port,
        "round_trip_s": result.round_trip_s,
        "server": result.server,
    }
