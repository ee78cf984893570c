"""`miros-cache-net node`."""

from __future__ import annotations

import contextlib
import queue
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from miros_cache_net.cli.cache_file import count_text, file_option, json_option, payload_json
from miros_cache_net.cli.describe import age_line, difference
from miros_cache_net.cli.exits import Exit, printable
from miros_cache_net.cli.output import print_json
from miros_cache_net.errors import DirectoryMissing
from miros_cache_net.payloads import CacheReadPayload

if TYPE_CHECKING:
    from miros_cache_net.node import CacheNode

#: How often role and link are looked at beside the events; also bounds how late a signal can be seen.
_LOOK_EVERY_S: Final = 1.0
_LOG_LINE: Final = "%(asctime)s %(levelname)s %(message)s"


@click.command("node")
@file_option
@json_option
def command(file_path: str | None, as_json: bool) -> int:
    """Run a node in the foreground until a signal.

    It keeps this host's cache file in step with the fleet's.  It says what happens, one line each, and ends
    cleanly (exit code 0) on Ctrl-C or SIGTERM.  Without a broker it serves the file and catches up when one
    answers.  Programs that build a CacheNode of their own need no such node; several on one host share one link.

    \b
    Examples:
      miros-cache-net key new && miros-cache-net node
      MIROS_CACHE_AMQP_URL=amqp://beta.lab miros-cache-net node --file /srv/cache/peers.json
      miros-cache-net node --json | jq --unbuffered 'select(.what == "cache") | .dict'
    """
    from miros_cache_net.cli.fleet_settings import load_settings, log_to_stderr
    from miros_cache_net.events import CACHE
    from miros_cache_net.node import CacheNode
    from miros_cache_net.settings.which_file import cache_path
    from miros_cache_net.statechart.listener import Listener

    settings = load_settings(file_path)
    path = cache_path(settings.file)
    if not path.parent.is_dir():
        raise DirectoryMissing(f"{path}: its directory does not exist; create it")
    log_to_stderr(settings.log_level, _LOG_LINE)
    happenings: queue.SimpleQueue[CacheReadPayload | None] = queue.SimpleQueue()
    listener = Listener({CACHE: happenings.put})
    try:
        node = CacheNode(path, settings)
        try:
            with _signals_put(happenings):
                _Report(node, as_json).follow(happenings)
        finally:
            node.stop()
    finally:
        listener.stop()
    return Exit.DONE


class _Report:
    """Says what happens to a node."""

    def __init__(self, node: CacheNode, as_json: bool) -> None:
        self._node = node
        self._as_json = as_json
        self._role = ""
        self._connected = False
        self._last = CacheReadPayload({}, 0.0, "", True, "")

    def follow(self, happenings: queue.SimpleQueue[CacheReadPayload | None]) -> None:
        """Until None is among the happenings."""
        status = self._node.status()
        place = f"scope {status['scope']!r}, document {status['document']!r}, key {status['keys'][0]}"
        self._say("started", f"node {status['node']} keeps {self._node.file_chart.path}; {place}", status)
        while True:
            try:
                happening = happenings.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                self._look()
                continue
            if happening is None:
                self._say("stopping", "stopping", {})
                return
            self._look()
            self._cache(happening)

    def _look(self) -> None:
        """Role and link, where they have changed."""
        status = self._node.status()
        if status["role"] != self._role:
            self._role = status["role"]
            texts = {"bridge": "this process links this host to the broker", "follower": "follows this host's bridge"}
            self._say("role", texts.get(self._role, self._role), status)
        if status["connected"] != self._connected:
            self._connected = status["connected"]
            through = f" through {status['broker']}" if status["broker"] else ""
            text = f"in step with the fleet{through}" if self._connected else "out of touch with the fleet"
            self._say("connected" if self._connected else "disconnected", text, status)

    def _cache(self, payload: CacheReadPayload) -> None:
        before = self._last
        if payload.file_path != self._node.file_chart.file_path or payload.version == before.version:
            return
        self._last = payload
        what = difference(before, payload) if before.version else count_text(len(payload.dict), "key")
        self._say("cache", f"{what}; {age_line(payload)}", payload_json(payload))

    def _say(self, what: str, text: str, facts: dict[str, Any]) -> None:
        if self._as_json:
            print_json({"what": what, "at": time.time(), **facts})
        else:
            click.echo(printable(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"))


@contextlib.contextmanager
def _signals_put(happenings: queue.SimpleQueue[CacheReadPayload | None]) -> Iterator[None]:
    """SIGTERM and SIGINT put None; afterwards a further one interrupts."""
    before = {
        number: signal.signal(number, lambda _number, _frame: happenings.put(None))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
