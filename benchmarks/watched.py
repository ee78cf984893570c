"""What being watched costs a host: ``python -m benchmarks.watched``.

A node on a real RabbitMQ, whose file a program changes ten times a second: its CPU while nobody watches, while one
watcher follows all its steps, with spy and payloads, and afterwards.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.measure import Line, table
from miros_cache_net.cache import Cache
from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import COMMAND, clean_environment

_SECONDS, _CHANGES_A_SECOND = 10.0, 10
_FILE = ".miros_rabbitmq_cache.json"


def main() -> int:
    with RabbitServer() as rabbit, tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        place = {"MIROS_CACHE_AMQP_URL": rabbit.start().url, "MIROS_CACHE_KEYS": generate_key().decode()}
        with _running(home, "node", place) as node, Cache(home / _FILE) as cache:
            wait_until(lambda: "in step" in (home / "node.out").read_text(), 30, "the node")
            quiet = _cpu_ms(node, cache)
            with _running(home, "trace", place):
                wait_until(lambda: (home / "trace.out").stat().st_size, 30, "the past")
                watched = _cpu_ms(node, cache)
            with _running(home, "trace", place, "--spy", "--payloads"):
                wait_until(lambda: (home / "trace.out").stat().st_size, 30, "the past")
                closely = _cpu_ms(node, cache)
            wait_until(lambda: _cpu_ms(node, cache, 0.5) >= 0, 30)
            afterwards = _cpu_ms(node, cache)
    note = f"{_CHANGES_A_SECOND} changes a second"
    print(
        table(
            [
                Line("CPU of a node that is watched, a second", watched, quiet, "ms", note=note),
                Line("the same with --spy --payloads", closely, quiet, "ms", note=note),
                Line("the same afterwards", afterwards, quiet, "ms", note=note),
            ]
        )
    )
    return 0


@contextlib.contextmanager
def _running(home: Path, command: str, place: dict[str, str], *options: str) -> Iterator[psutil.Process]:
    with (home / f"{command}.out").open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, command, *options], cwd=home, stdout=out, stderr=out, env=clean_environment(home, **place)
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _cpu_ms(node: psutil.Process, cache: Cache, seconds: float = _SECONDS) -> float:
    """The node's CPU in a second, while the document changes."""
    before, began_s = sum(node.cpu_times()[:2]), time.monotonic()
    changes = int(seconds * _CHANGES_A_SECOND)
    for number in range(changes):
        cache.update({"n": number})
        time.sleep(max(0.0, began_s + (number + 1) / _CHANGES_A_SECOND - time.monotonic()))
    return (sum(node.cpu_times()[:2]) - before) * 1000 / (time.monotonic() - began_s)


if __name__ == "__main__":
    sys.exit(main())
