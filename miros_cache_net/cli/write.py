"""`miros-cache-net write`."""

from __future__ import annotations

import click

from miros_cache_net.cli.cache_file import file_option, json_option
from miros_cache_net.cli.changing import change
from miros_cache_net.cli.completing import files
from miros_cache_net.cli.json_input import object_from


@click.command("write")
@click.argument("source", metavar="[FILE or -]", default="-", shell_complete=files)
@file_option
@json_option
def command(source: str, file_path: str | None, as_json: bool) -> int:
    """Replace the document with a JSON object.

    The object is read from FILE, or from standard input.  It counts as discovered now.  When the command returns,
    the object is on disk, and every program on this machine that reads the cache file gets it.
    The key "time_out_in_minutes" says when it expires; without the key it never does, and a value that is not
    a number is refused.

    \b
    Examples:
      echo '{"hosts": ["10.0.0.2"], "time_out_in_minutes": 60}' | miros-cache-net write
      miros-cache-net write discovered.json
      miros-cache-net write --file /srv/cache/peers.json discovered.json
    """
    contents = object_from(source)
    return change(file_path, as_json, lambda cache: cache.write(contents))
