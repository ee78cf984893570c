"""`miros-cache-net discover`."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from miros_cache_net.cache import Cache
from miros_cache_net.cli.cache_file import count_text, file_errors, file_option, json_option
from miros_cache_net.cli.completing import hosts as known_hosts
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.fleet_settings import load_settings
from miros_cache_net.cli.output import measuring, print_json, print_table
from miros_cache_net.discovery import lan_document
from miros_cache_net.errors import BrokerUnreachable, SettingsError
from miros_cache_net.payloads import AMQPConsumerCheckPayload, CacheReadPayload, RecceCompletePayload

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

_STEPS = {"sweep": "asking the addresses of the network", "scout": "scouting what answered"}


@click.command("discover")
@click.argument("hosts", metavar="[HOST...]", nargs=-1, shell_complete=known_hosts)
@click.option("--force", is_flag=True, help="Discover again, however young the cache is.")
@click.option("--legacy", is_flag=True, help=f"Find brokers for miros-rabbitmq programs: {lan_document.OLD_FILE}.")
@file_option
@json_option
def command(hosts: tuple[str, ...], force: bool, legacy: bool, file_path: str | None, as_json: bool) -> int:
    """Find the brokers of this machine's networks.

    While the cache is fresh, its peers are printed and no packet is sent to the network.  Otherwise every address of
    this machine's networks is probed for the AMQP port, or only each HOST given, or those that MIROS_CACHE_DISCOVER and
    MIROS_CACHE_HOSTS_FILE name.  What answers is scouted as `scout` does, and the usable brokers are written into
    the cache, for MIROS_CACHE_TIME_OUT_IN_MINUTES (30): for every program of this machine and, where a node runs,
    of the fleet.  If another program is already discovering, the command waits for its result.
    Networks larger than MIROS_CACHE_SWEEP_PREFIX are not swept.  Keys of the document that no discovery wrote stay.
    A cache file that holds a fresh document of another kind is left alone.  The exit code is 1 if there is no
    usable broker.

    With --legacy it looks for brokers that programs of miros-rabbitmq can use, and writes the file that they
    read in their working directory, in the form that they understand: a program that starts while the file is fresh
    skips its own discovery.  Run it in that directory, or name the file with --file.

    \b
    Examples:
      miros-cache-net discover
      miros-cache-net discover --force
      miros-cache-net discover alpha.lab 192.168.1.10:5673
      MIROS_CACHE_TRUSTED_NETWORKS=auto miros-cache-net discover --legacy
      MIROS_CACHE_TRUSTED_NETWORKS=auto miros-cache-net discover --json | jq -r .hosts[]
    """
    if any("@" in host or "://" in host for host in hosts):
        raise SettingsError("a HOST is host or host:port, not a URL; user and password come from the settings")
    settings = load_settings(_old_file(file_path) if legacy else file_path)
    results: list[RecceCompletePayload] = []

    def discovery() -> dict[str, Any]:
        results.append(_recce(settings, hosts, legacy))
        return _document(settings, results[0])

    with file_errors(settings.file), Cache(settings.file) as cache:
        _refuse_another_kind(cache.read_or_repair())
        payload = cache.get_or_discover(discovery, force=force, keeps=lan_document.is_foreign)
    return _show_found(payload, results[0], as_json) if results else _show_known(payload, as_json)


def _old_file(file_path: str | None) -> str:
    if file_path is not None and not lan_document.is_old(file_path):
        raise SettingsError(
            f"miros-rabbitmq programs read only {lan_document.OLD_FILE}: give a --file that ends with it"
        )
    return file_path or lan_document.OLD_FILE


def _refuse_another_kind(known: CacheReadPayload) -> None:
    if not known.expired and lan_document.addresses_in(known.dict) is None:
        raise SettingsError(f"{known.file_path} holds a fresh document of another kind; name another --file")


def _recce(settings: Settings, hosts: Sequence[str], legacy: bool) -> RecceCompletePayload:
    """Run one recce to its end, with progress on a terminal.  Raises `BrokerUnreachable` if it cannot start."""
    from miros_cache_net.cli.recce_listener import RecceListener

    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = RecceListener(settings, hosts, told.put, legacy=legacy)
    try:
        with measuring() as show:
            while not isinstance(news := told.get(), RecceCompletePayload):
                show(_STEPS.get(news.step, news.step), news.done, news.total)
    finally:
        listener.stop()
    if news.failed:
        raise BrokerUnreachable(news.failed)
    return news


def _document(settings: Settings, result: RecceCompletePayload) -> dict[str, Any]:
    from miros_cache_net.clock import SYSTEM_CLOCK

    return lan_document.render(
        [check for check in result.checks if check.result],
        settings,
        seen_at=SYSTEM_CLOCK.wall_ms() / 1000,
        time_out_in_minutes=settings.time_out_in_minutes,
        own=result.my_address if result.my_broker else "",
        old=lan_document.is_old(settings.file),
    )


# --- what is printed ----------------------------------------------------------------------------------


def _show_known(known: CacheReadPayload, as_json: bool) -> int:
    addresses = lan_document.addresses_in(known.dict) or []
    if as_json:
        print_json(_json(known, addresses, reused=True))
    else:
        say(f"reused {known.file_path}: {_why_reused(known)}; nothing was sent; --force discovers again")
        if addresses:
            print_table(("host", "found by"), [(address, _finder(known, address)) for address in addresses])
    return Exit.DONE if addresses else Exit.NO


def _why_reused(known: CacheReadPayload) -> str:
    """For example ``discovered 3 min ago by alpha-1f2e3d4c, expires in 27 min``."""
    # Expired, and yet reused: its time-out is very short, or a host's clock is wrong (`single_flight.rest_s`).
    return age_line(known) + (", but this host has discovered recently" if known.expired else "")


def _show_found(written: CacheReadPayload, result: RecceCompletePayload, as_json: bool) -> int:
    found = result.other_addresses
    if as_json:
        facts = {"my_address": result.my_address, "swept": result.swept, "declined": list(result.declined)}
        print_json(
            {**_json(written, found, reused=False), **facts, "checks": [each._asdict() for each in result.checks]}
        )
        return Exit.DONE if found else Exit.NO
    for line in result.declined:
        say(line)
    if result.checks:
        print_table(("host", "usable", "reason", "connect", "detail"), [_row(check) for check in result.checks])
    asked = result.swept or len(result.checks)
    own = {result.my_address} if result.my_broker else set()
    is_stored = set(lan_document.addresses_in(written.dict) or ()) == own | set(found)
    fate = f"written to {written.file_path}" if is_stored else f"{written.file_path} keeps what was written meanwhile"
    say(f"{count_text(len(found), 'usable broker')} among {asked} addresses; {fate}")
    if any(check.reason == "not_trusted" for check in result.checks):
        say("to send the password to brokers of this machine's own networks, set MIROS_CACHE_TRUSTED_NETWORKS=auto")
    return Exit.DONE if found else Exit.NO


def _row(check: AMQPConsumerCheckPayload) -> tuple[str, ...]:
    connect = "" if check.round_trip_s is None else f"{check.round_trip_s * 1000:.1f} ms"
    return check.ip_address, "yes" if check.result else "no", check.reason, connect, check.detail


def _finder(known: CacheReadPayload, address: str) -> str:
    entry = known.dict.get(f"peer:{address}")
    return str(entry.get("by", "")) if isinstance(entry, dict) else known.origin


def _json(payload: CacheReadPayload, hosts: Sequence[str], *, reused: bool) -> dict[str, Any]:
    return {
        "hosts": list(hosts),
        "reused": reused,
        "why_reused": _why_reused(payload) if reused else "",
        "age_s": payload.age_s,
        "origin": payload.origin,
        "file": payload.file_path,
    }
