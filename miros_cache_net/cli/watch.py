"""`miros-cache-net watch`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

import click

from miros_cache_net.cache import Cache
from miros_cache_net.cli.cache_file import chosen_path, file_errors, file_option, json_option, payload_json
from miros_cache_net.cli.describe import age_line, difference
from miros_cache_net.cli.exits import Exit, say
from miros_cache_net.cli.output import print_json, print_line
from miros_cache_net.errors import DirectoryMissing, StoreError
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.watch import FileWatch

#: Python handles a signal that comes just before a wait only after the wait, so no wait is unbounded.
_SIGNALS_SEEN_S: Final = 1.0


@click.command("watch")
@file_option
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Exit after N changes.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="S", help="Exit after S seconds.")
@json_option
def command(file_path: str | None, count: int | None, timeout_s: float | None, as_json: bool) -> int:
    """Print the document's changes as they happen.

    One line per change, whichever program made it, until Ctrl-C; with --json one object per line, as `read --json`
    prints it.  Changes within milliseconds of each other may show as one: the last.
    The exit code is 1 if --timeout passes before --count changes (without --count: before any).

    \b
    Examples:
      miros-cache-net watch
      miros-cache-net watch --count 1 --timeout 60 > /dev/null && echo "it has changed"
      miros-cache-net watch --json | jq --unbuffered .dict.hosts
    """
    path = chosen_path(file_path)
    if not path.parent.is_dir():
        raise DirectoryMissing(f"{path}: its directory does not exist; create it")
    seen = 0
    with Cache(path) as cache:
        for before, payload in _changes(cache, timeout_s):
            _show(before, payload, as_json)
            seen += 1
            if seen == count:
                return Exit.DONE
    return Exit.DONE if seen and count is None else Exit.NO


def _changes(cache: Cache, timeout_s: float | None) -> Iterator[tuple[CacheReadPayload, CacheReadPayload]]:
    """Each state of the document with the one before it, until the time-out."""
    changed = threading.Event()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    watch = FileWatch(cache.path, changed.set)
    try:
        last = _read(cache) or CacheReadPayload({}, 0.0, "", True, cache.path.name)
        say(f"watching {cache.path}; Ctrl-C stops it")
        while _wait(changed, deadline):
            changed.clear()
            payload = _read(cache)
            if payload is not None and payload.version != last.version:
                yield last, payload
                last = payload
    finally:
        watch.close()


def _wait(changed: threading.Event, deadline: float | None) -> bool:
    """Wait for a change; False once the deadline has passed."""
    while True:
        left_s = _SIGNALS_SEEN_S if deadline is None else deadline - time.monotonic()
        if changed.wait(min(max(0.0, left_s), _SIGNALS_SEEN_S)):
            return True
        if left_s <= 0:
            return False


def _read(cache: Cache) -> CacheReadPayload | None:
    """The document; None, with a line that says why, while the file holds none."""
    try:
        with file_errors(cache.path):
            return cache.read()
    except StoreError as error:
        say(str(error))
        return None


def _show(before: CacheReadPayload, payload: CacheReadPayload, as_json: bool) -> None:
    if as_json:
        print_json(payload_json(payload))
        return
    moment = time.strftime("%H:%M:%S")
    print_line(f"{moment}  {difference(before, payload)}; {age_line(payload)}")
