"""Hosts of a fleet for tests: each has a directory and a node of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miros_cache_net.amqp.link import Link, Place
from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.client import Cache
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings
from miros_cache_net.testing import wait_until
from miros_cache_net.wire.keyring import generate_key


@dataclass
class Host:
    """One host: its node, and the cache file as any other program of that host sees it."""

    node: CacheNode
    cache: Cache

    @property
    def contents(self) -> dict[str, Any]:
        return dict(self.cache.read().dict)


class Hosts:
    """Makes hosts of one fleet; all are stopped by `stop_all`."""

    def __init__(self, directory: Path, broker: MemoryBroker | str) -> None:
        self._directory = directory
        self._broker = broker
        self.key = generate_key().decode()
        self._hosts: list[Host] = []

    def settings(self, name: str, **changes: Any) -> Settings:
        directory = self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = {
            "keys": self.key,
            "file": str(directory / "cache.json"),
            "node_name": name,
            "answer_timeout_s": 0.5,
            **changes,
        }
        if isinstance(self._broker, str):
            values.setdefault("amqp_urls", self._broker)
        return Settings(**values)

    def start(
        self, name: str, default: dict[str, Any] | None = None, clock: Clock = SYSTEM_CLOCK, **changes: Any
    ) -> Host:
        settings = self.settings(name, **changes)
        extra: dict[str, Any] = {} if isinstance(self._broker, str) else {"link_factory": self._link}
        node = CacheNode(settings=settings, default_json=default, clock=clock, **extra)
        host = Host(node, Cache(settings.file))
        self._hosts.append(host)
        return host

    def joined(self, name: str, **changes: Any) -> Host:
        host = self.start(name, **changes)
        wait_until(lambda: host.node.connected, what=f"{name} is in step with the fleet")
        return host

    def stop_all(self) -> None:
        for host in reversed(self._hosts):
            host.cache.close()
            host.node.stop()

    def _link(self, settings: Settings, place: Place) -> Link:
        assert isinstance(self._broker, MemoryBroker)
        return MemoryLink(self._broker, place, connection_name=settings.node_name)


@contextmanager
def fleet(directory: Path, broker: MemoryBroker | str) -> Iterator[Hosts]:
    hosts = Hosts(directory, broker)
    try:
        yield hosts
    finally:
        hosts.stop_all()


def agree(
    *hosts: Host, on: Callable[[dict[str, Any]], object] = lambda _contents: True, timeout_s: float = 20.0
) -> None:
    """Wait until all hosts have the same document, for which `on` holds."""
    wait_until(
        lambda: len({host.cache.read().version for host in hosts}) == 1 and on(hosts[0].contents),
        timeout_s=timeout_s,
        what=f"agreement of {len(hosts)} hosts",
    )
