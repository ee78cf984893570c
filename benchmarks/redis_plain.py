"""A private Redis (Debian's `redis-server`), and as much of its protocol as SET, GET and pub/sub need."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from miros_cache_net.testing import free_port, wait_until

#: How durable: what a user gets by leaving out persistence, and what equals an fsync a write.
MODES = {"redis, no persistence": "no", "redis, fsync always": "yes"}


class Redis:
    """One connection; one command at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")

    def call(self, *words: str | bytes) -> Any:
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        parts = [b"*%d\r\n" % len(encoded), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)]
        self._socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self) -> Any:
        """The next reply; on a subscribed connection, the next message."""
        line = self._replies.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self._replies.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        raise ConnectionError(f"Redis: {line!r}")

    def close(self) -> None:
        self._replies.close()
        self._socket.close()


@contextmanager
def redis_servers(directory: Path) -> Iterator[dict[str, int]]:
    """The port of one server for each of `MODES`; none where `redis-server` is not installed."""
    servers: list[subprocess.Popen[bytes]] = []
    ports: dict[str, int] = {}
    try:
        for name, append_only in MODES.items() if shutil.which("redis-server") else ():
            ports[name] = port = free_port()
            place = directory / f"redis-{append_only}"
            place.mkdir()
            options = {"--port": str(port), "--bind": "127.0.0.1", "--dir": str(place), "--save": "",
                       "--appendonly": append_only, "--appendfsync": "always"}  # fmt: skip
            arguments = [word for option in options.items() for word in option]
            servers.append(subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL))
            wait_until(lambda port=port: _answers(port), what="redis-server")  # type: ignore[misc]
        yield ports
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def _answers(port: int) -> bool:
    try:
        redis = Redis(port)
    except OSError:
        return False
    try:
        return bool(redis.call("PING") == b"PONG")
    finally:
        redis.close()
