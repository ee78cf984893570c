"""What `write` and `update` share: change the document and print what is stored now."""

from __future__ import annotations

from collections.abc import Callable

from miros_cache_net.cache import Cache
from miros_cache_net.cli.cache_file import chosen_path, count_text, file_errors, payload_json
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.exits import Exit
from miros_cache_net.cli.output import print_json, print_line, told_if_slow
from miros_cache_net.payloads import CacheReadPayload


def change(file_path: str | None, as_json: bool, function: Callable[[Cache], CacheReadPayload]) -> int:
    """Call `function` with the cache and print what it stored."""
    path = chosen_path(file_path)
    with Cache(path) as cache, file_errors(path), told_if_slow(f"another program is writing {path}; waiting"):
        payload = function(cache)
    if as_json:
        print_json(payload_json(payload))
    else:
        print_line(f"{path}: {count_text(len(payload.dict), 'key')} stored; {age_line(payload)}")
    return Exit.DONE
