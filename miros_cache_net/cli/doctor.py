"""`miros-cache-net doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from miros_cache_net.cli.cache_file import count_text, file_option, json_option
from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.health.finding import FAILED, OK, SKIPPED, Finding
from miros_cache_net.cli.output import print_json, print_table, told_if_slow
from miros_cache_net.errors import CacheNetError, SettingsError

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings


@click.command("doctor")
@file_option
@json_option
def command(file_path: str | None, as_json: bool) -> int:
    """Check what a node needs, and say how to mend it.

    Settings, key, directory and file, clock; then each broker: whether it can be reached, login, virtual host,
    exchange; and whether a node of the fleet answers.  At a broker it does what a node does, so it declares the
    exchange if it is not there yet.
    The exit code is 1 if anything has failed.

    \b
    Examples:
      miros-cache-net doctor
      miros-cache-net doctor --json | jq -r '.[] | select(.outcome == "FAILED") | .detail'
    """
    with told_if_slow("asking the broker"):
        findings = list(_examine(file_path))
    failed = sum(finding.outcome == FAILED for finding in findings)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        print_table(("check", "", "what"), findings)
        click.echo(f"\n{count_text(failed, 'check')} failed" if failed else "\nall is well")
    return Exit.NO if failed else Exit.DONE


def _examine(file_path: str | None) -> Iterator[Finding]:
    from miros_cache_net.cli.health.clock_checks import ClockWatch

    clock = ClockWatch()
    try:
        settings, path = _settings(file_path)
    except CacheNetError as error:
        yield Finding("settings", FAILED, str(error))
        yield from (Finding(check, SKIPPED, "needs the settings") for check in ("key", "file", "broker"))
    else:
        yield Finding("settings", OK, "see `miros-cache-net settings`")
        yield from _examine_with(settings, path)
    yield clock.finding()


def _settings(file_path: str | None) -> tuple[Settings, Path]:
    from miros_cache_net.cli.fleet_settings import load_settings
    from miros_cache_net.settings.which_file import cache_path

    settings = load_settings(file_path)
    return settings, cache_path(settings.file)


def _examine_with(settings: Settings, path: Path) -> Iterator[Finding]:
    from miros_cache_net.cli.health.broker_checks import check_brokers
    from miros_cache_net.cli.health.file_checks import check_file
    from miros_cache_net.cli.health.fleet_check import check_answers

    key = _check_key(settings)
    yield key
    yield from check_file(path)
    try:
        yield from check_brokers(settings, path)
    except SettingsError as error:
        yield Finding("broker", FAILED, str(error))
    else:
        yield check_answers(settings, path) if key.outcome == OK else Finding("answers", SKIPPED, "needs the key")


def _check_key(settings: Settings) -> Finding:
    from miros_cache_net.wire.keyring import KeyRing

    try:
        ring = KeyRing(settings.load_keys())
    except SettingsError as error:
        return Finding("key", FAILED, str(error))
    place = "MIROS_CACHE_KEYS" if settings.keys else str(settings.keys_file)
    return Finding("key", OK, f"{ring.primary_id} encrypts, of {count_text(len(ring.ids), 'key')} from {place}")
