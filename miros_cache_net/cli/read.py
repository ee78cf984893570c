"""`miros-cache-net read`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from miros_cache_net.cache import read_cache
from miros_cache_net.cli.cache_file import chosen_path, file_errors, file_option, json_option, payload_json
from miros_cache_net.cli.completing import document_keys
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.output import print_json, told_if_slow
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.payloads import CacheReadPayload

#: A running bridge answers in milliseconds; a stopped one never does.
_BRIDGE_ANSWER_S: Final = 1.0


@click.command("read")
@file_option
@click.option("--fleet", is_flag=True, help="Ask the fleet, not this machine's file.")
@click.option("--key", metavar="KEY", shell_complete=document_keys, help="Print the value of this key only.")
@json_option
def command(file_path: str | None, fleet: bool, key: str | None, as_json: bool) -> int:
    """Print the document.

    The document goes to standard output; its age, and who discovered it, to standard error.
    With --json both go to standard output as one object, with the document as its "dict".
    The exit code is 1 if the document is expired or absent, or has no such KEY.
    With --fleet the first peer that answers supplies the document; nothing is written here.

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
    if as_json:
        payload = payload._replace(connected=_is_connected(path))
    absent = "" if path.exists() else "there is no such file"
    return _show(payload, key, as_json, place=payload.file_path, absent=absent)


def _is_connected(path: Path) -> bool:
    """Whether a node of this host keeps the file in step with the fleet; the file alone cannot say."""
    from miros_cache_net.host.stranger import bridge_states

    return any(state.connected for state in bridge_states(path, _BRIDGE_ANSWER_S))


def _from_fleet(file_path: str | None, key: str | None, as_json: bool) -> int:
    """Print the document of the peer that answers first."""
    from miros_cache_net.cli.fleet_settings import load_settings, silence_line
    from miros_cache_net.document.value import Document
    from miros_cache_net.fleet.fleet_client import FleetClient
    from miros_cache_net.settings.which_file import cache_path
    from miros_cache_net.store.snapshot import Snapshot

    settings = load_settings(file_path)
    path = cache_path(settings.file)
    with told_if_slow("asking the fleet"), FleetClient(settings, path) as client:
        document = client.fleet.document()
        absent = "" if document else silence_line(client)
    now_ms = SYSTEM_CLOCK.wall_ms()
    snapshot = Snapshot(document or Document.unwritten({}), False, None)
    payload = snapshot.payload(path, now_ms, connected=True)
    payload = payload._replace(file_name="", file_path="", created_at="", stored_at="")
    return _show(payload, key, as_json, place="the fleet", absent=absent)


def _show(payload: CacheReadPayload, key: str | None, as_json: bool, *, place: str, absent: str) -> int:
    """Print a document, or one key of it; the exit code says whether it is usable.  `absent` says why there is none."""
    if not as_json:
        say(f"{place}: {absent or age_line(payload)}")
    if key is not None and key not in payload.dict:
        say(f"{place}: no key {key!r}; its keys are {', '.join(payload.dict) or 'none'}")
        return Exit.NO
    if as_json:
        chosen = payload.dict if key is None else {key: payload.dict[key]}
        print_json(payload_json(payload._replace(dict=chosen)))
    elif not absent:
        print_json(payload.dict if key is None else payload.dict[key], pretty=True)
    return Exit.NO if payload.expired else Exit.DONE
