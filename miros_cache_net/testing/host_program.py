"""A process with a `CacheNode`, which does what it is told on standard input and says what happens, as JSON lines.

Run as ``python -m miros_cache_net.testing.host_program``; the other side is `NodeProcess`.  The first line of its input
holds how it begins, each further one a command, until the input ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings
from miros_cache_net.testing.skewed_clock import SkewedClock

Command = Callable[..., Any]


class Voice:
    """Says lines on what was standard output; what is printed from now on goes to standard error.  Thread-safe."""

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
    """Be a host until standard input ends.  `more` commands, by name; `node_arguments` go to `CacheNode`."""
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


def _listener(say: Voice) -> Any:
    """A chart that says what is published."""

    def entry(chart: Any, e: Any) -> Any:
        for name in ("CACHE", "CACHE_ERROR"):
            chart.subscribe(Event(signal=name))
        return return_status.HANDLED

    def cache(chart: Any, e: Any) -> Any:
        payload = e.payload
        facts = {"contents": dict(payload.dict), "connected": payload.connected, "version": payload.version}
        say(signal="CACHE", at_s=time.monotonic(), **facts)
        return return_status.HANDLED

    def failed(chart: Any, e: Any) -> Any:
        say(signal="CACHE_ERROR", at_s=time.monotonic(), reason=e.payload.reason.value, message=e.payload.message)
        return return_status.HANDLED

    listener = Factory("listener")
    state = listener.create(state="listening").catch(signal=signals.ENTRY_SIGNAL, handler=entry)
    state.catch(signal=signals.CACHE, handler=cache).catch(signal=signals.CACHE_ERROR, handler=failed)
    listening = state.to_method()
    listener.nest(listening, parent=None)
    listener.start_at(listening)
    return listener


def _plain(value: Any) -> Any:
    """What JSON does not know of an immutable document."""
    return dict(value) if isinstance(value, Mapping) else list(value)


if __name__ == "__main__":
    run()
