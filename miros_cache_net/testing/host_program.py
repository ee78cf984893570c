"""A process with a `CacheNode` that takes commands on standard input and reports events, both as JSON lines.

Run as ``python -m miros_cache_net.testing.host_program``; the other side is `NodeProcess`.  The first line of its input
has the initial settings, each further one a command, until the input ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from miros.event import Event

from miros_cache_net.events import CACHE, CACHE_ERROR
from miros_cache_net.node import CacheNode
from miros_cache_net.payloads import CacheErrorPayload, CacheReadPayload
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.listener import Listener
from miros_cache_net.testing.skewed_clock import SkewedClock

Command = Callable[..., Any]


class Voice:
    """Writes lines to the original standard output, and redirects later prints to standard error.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def __call__(self, **line: Any) -> None:
        text = json.dumps(line, default=_plain)
        with self._lock:
            self._output.write(text + "\n")
            self._output.flush()


def run(*, more: Mapping[str, Command] | None = None, **node_arguments: Any) -> None:
    """Run a host until standard input ends.  `more`: further commands by name; `node_arguments` go to `CacheNode`."""
    say = Voice()
    begin = json.loads(sys.stdin.readline())
    clock = SkewedClock()
    clock.skew_s = begin["skew_s"]
    listener = _listener(say)
    node = CacheNode(
        settings=Settings(**begin["settings"]), default_json=begin["default"], clock=clock, **node_arguments
    )
    say(started=os.getpid())
    commands = {**_commands(node, clock), **(more or {})}
    for line in sys.stdin:
        threading.Thread(target=_obey, args=(say, commands, json.loads(line)), daemon=True).start()
    node.stop()
    listener.stop()


def _commands(node: CacheNode, clock: SkewedClock) -> dict[str, Command]:
    def skew(seconds: float) -> None:
        clock.skew_s = seconds

    def publish(signal: str, payload: Any = None) -> None:
        node.file_chart.post_fifo(Event(signal=signal, payload=payload))

    def read_fleet(timeout_s: float) -> dict[str, Any] | None:
        document = node.read_fleet(timeout_s)
        return None if document is None else dict(document.contents)

    return {
        "status": node.status,
        "fleet_status": node.fleet_status,
        "read_fleet": read_fleet,
        "publish": publish,
        "skew": skew,
        "stop": node.stop,
    }


def _obey(say: Voice, commands: Mapping[str, Command], line: dict[str, Any]) -> None:
    try:
        answer = {"result": commands[line["do"]](**line["arguments"])}
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    say(number=line["number"], **answer)


def _listener(say: Voice) -> Listener:
    """A listener that reports each published event."""

    def cache(payload: CacheReadPayload) -> None:
        facts = {"contents": dict(payload.dict), "connected": payload.connected, "version": payload.version}
        say(signal=CACHE, at_s=time.monotonic(), **facts)

    def failed(payload: CacheErrorPayload) -> None:
        say(signal=CACHE_ERROR, at_s=time.monotonic(), reason=payload.reason.value, message=payload.message)

    return Listener({CACHE: cache, CACHE_ERROR: failed})


def _plain(value: Any) -> Any:
    """A plain dict or list for a type that JSON cannot encode."""
    return dict(value) if isinstance(value, Mapping) else list(value)


if __name__ == "__main__":
    run()
