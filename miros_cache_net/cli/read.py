"""`miros-cache-net read`."""

from __future__ import annotations

import click

from miros_cache_net.cache import read_cache
from miros_cache_net.cli.cache_file import chosen_path, file_errors, file_option, json_option, payload_json
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.output import print_json, told_if_slow
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.payloads import CacheReadPayload


@click.command("read")
@file_option
@click.option("--fleet", is_flag=True, help="Ask the fleet, not this machine's file.")
@click.option("--key", metavar="KEY", help="Print the value of this key only.")
@json_option
def command(file_path: str | None, fleet: bool, key: str | None, as_json: bool) -> int:
    """Print the document.

    The document goes to standard output; how old it is, and who discovered it, to standard error.
    With --json both go to standard output as one object, the document as its "dict".
    The exit code is 1 if the document is expired or absent, or has no such KEY.
    With --fleet the peer that answers first has its document printed; nothing is written here.

    \b
    Examples:
      miros-cache-net read
      miros-cache-net read --key hosts
      miros-cache-net read --fleet
      miros-cache-net read --json | jq .age_s
      miros-cache-net read > /dev/null 2>&1 && echo "young enough"
    """
    if fleet:
        return _from_fleet(file_path, key, as_json)
    path = chosen_path(file_path)
    with file_errors(path):
        payload = read_cache(path)
    absent = "" if path.exists() else "there is no such file"
    return _show(payload, key, as_json, place=payload.file_path, absent=absent)


def _from_fleet(file_path: str | None, key: str | None, as_json: bool) -> int:
    """The document of whichever peer answers first."""
    from miros_cache_net.cli.fleet_settings import load_settings, silence_line
    from miros_cache_net.document.value import Document
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings.which_file import cache_path
    from miros_cache_net.store.snapshot import Snapshot

    settings = load_settings(file_path)
    path = cache_path(settings.file)
    with told_if_slow("asking the fleet"), FleetClient(settings, path) as client:
        document = client.read()
        absent = "" if document else silence_line(client)
    now_ms = SYSTEM_CLOCK.wall_ms()
    snapshot = Snapshot(document or Document.unwritten({}), False, None)
    payload = snapshot.payload(path, now_ms, connected=True)._replace(file_name="", file_path="", created_at="")
    return _show(payload, key, as_json, place="the fleet", absent=absent)


def _show(payload: CacheReadPayload, key: str | None, as_json: bool, *, place: str, absent: str) -> int:
    """Print a document, or one key of it, and tell whether it can be used; `absent` says why there is none."""
    if not as_json:
        say(f"{place}: {absent or age_line(payload)}")
    if key is not None and key not in payload.dict:
        say(f"{place}: no key {key!r}; its keys are {', '.join(payload.dict) or 'none at all'}")
        return Exit.NO
    if as_json:
        chosen = payload.dict if key is None else {key: payload.dict[key]}
        print_json(payload_json(payload._replace(dict=chosen)))
    elif not absent:
        print_json(payload.dict if key is None else payload.dict[key], pretty=True)
    return Exit.NO if payload.expired else Exit.DONE
