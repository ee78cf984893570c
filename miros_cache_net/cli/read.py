"""`miros-cache-net read`."""

from __future__ import annotations

import click

from miros_cache_net.cli.cache_file import chosen_path, file_errors, file_option, json_option, payload_json
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.output import print_json
from miros_cache_net.client import read_cache
from miros_cache_net.payloads import CacheReadPayload


@click.command("read")
@file_option
@click.option("--key", metavar="KEY", help="Print the value of this key only.")
@json_option
def command(file_path: str | None, key: str | None, as_json: bool) -> int:
    """Print the document.

    The document goes to standard output; how old it is, and who discovered it, to standard error.
    With --json both go to standard output as one object, the document as its "dict".
    The exit code is 1 if the document is expired or absent, or has no such KEY.

    \b
    Examples:
      miros-cache-net read
      miros-cache-net read --key hosts
      miros-cache-net read --json | jq .age_s
      miros-cache-net read > /dev/null 2>&1 && echo "young enough"
    """
    path = chosen_path(file_path)
    with file_errors(path):
        payload = read_cache(path)
    return show(payload, key, as_json, absent=not path.exists())


def show(payload: CacheReadPayload, key: str | None, as_json: bool, *, absent: bool) -> int:
    """Print a document that was read, or one key of it, and tell whether it can be used."""
    if not as_json:
        say(f"{payload.file_path}: {'there is no such file' if absent else age_line(payload)}")
    if key is not None and key not in payload.dict:
        keys = ", ".join(payload.dict) or "none at all"
        say(f"{payload.file_path}: no key {key!r}; its keys are {keys}")
        return Exit.NO
    if as_json:
        chosen = payload.dict if key is None else {key: payload.dict[key]}
        print_json(payload_json(payload._replace(dict=chosen)))
    elif not absent:
        print_json(payload.dict if key is None else payload.dict[key], pretty=True)
    return Exit.NO if payload.expired else Exit.DONE
