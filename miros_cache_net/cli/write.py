"""`miros-cache-net write`."""

from __future__ import annotations

import click

from miros_cache_net.cli.cache_file import file_option, json_option
from miros_cache_net.cli.changing import change
from miros_cache_net.cli.json_input import object_from


@click.command("write")
@click.argument("source", metavar="[FILE or -]", default="-")
@file_option
@json_option
def command(source: str, file_path: str | None, as_json: bool) -> int:
    """Replace the document with a JSON object.

    The object is read from FILE, or from standard input.  It counts as discovered now.  When this returns
    it is on the disk, and every program on this machine that reads the cache file has it.
    A key "time_out_in_minutes" says how long it is good; without one it never expires,
    and with one that is no number it has expired at once.

    \b
    Examples:
      echo '{"hosts": ["10.0.0.2"], "time_out_in_minutes": 60}' | miros-cache-net write
      miros-cache-net write discovered.json
      miros-cache-net write --file /srv/cache/peers.json discovered.json
    """
    contents = object_from(source)
    return change(file_path, as_json, lambda cache: cache.write(contents))
