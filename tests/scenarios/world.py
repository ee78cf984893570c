"""A fleet of three hosts of one kind, with the broker that they share."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import Fleet, RabbitCluster, RabbitServer, TcpForwarder, wait_until
from miros_cache_net.testing.host_kinds import NamespaceHost
from tests.scenarios.members import Member, NamespaceMember, ProcessMember

NAMES = ("alpha", "beta", "gamma")
#: The heartbeat that users have; digests three times as often, so that two intervals are 20 s.
INTERVAL_S = 10.0
SETTINGS: dict[str, Any] = {"heartbeat_s": 10, "digest_interval_s": INTERVAL_S, "keys": ()}


class Broker(Protocol):
    """What befalls a broker."""

    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> object: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def ctl(self, *arguments: str) -> str: ...


class World:
    """Members of one kind ("processes", "namespaces", "containers", or "cluster": processes on three brokers)."""

    def __init__(self, kind: str, members: Sequence[Member], broker: Broker, key: str) -> None:
        self.kind, self.members, self.broker, self.key = kind, members, broker, key
        self.cluster: RabbitCluster | None = None
        self.victims = list(members)
        """Whom something may befall; of one alone it is the first."""

    def forget(self) -> None:
        """Have the broker, which is down, lose its data."""
        assert isinstance(self.broker, RabbitServer)
        shutil.rmtree(self.broker.directory / "data")

    def wait_healthy(self, timeout_s: float = 60.0) -> float:
        """Seconds until every member says that it is healthy."""
        began_s = time.monotonic()

        def look() -> bool:
            unwell = [found["why"] for member in self.members if not (found := member.health())["healthy"]]
            assert not unwell, unwell
            return True

        wait_until(look, timeout_s=timeout_s, what="all to be healthy")
        return time.monotonic() - began_s


class HealthLog:
    """Asks one member how it is, twice a second, while its ``with`` block lasts; `said` are the changes: when, what."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.said: list[tuple[float, str]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"health of {member.name}")

    def __enter__(self) -> HealthLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def first_no(self, since_s: float, because: str) -> tuple[float, str] | None:
        """How long after `since_s` it first said no, and its words; `because`: what is to be among them."""
        return next(
            ((at_s - since_s, why) for at_s, why in self.said if at_s >= since_s and why and because in why), None
        )

    def says_no(self) -> bool:
        return bool(self.said and self.said[-1][1])

    def _run(self) -> None:
        while not self._ended.wait(0.5):
            why = self._member.health()["why"]
            if not self.said or why != self.said[-1][1]:
                self.said.append((time.monotonic(), why))


def key_file(directory: Path, name: str, key: str) -> Path:
    path = directory / f"{name}.keys"
    path.touch(0o600)
    path.write_text(f"{key}\n")
    return path


@contextlib.contextmanager
def processes(directory: Path, broker: RabbitServer | None = None, urls: str = "") -> Iterator[World]:
    """Hosts that are two processes each, whose way to the broker leads through a forwarder."""
    key = generate_key().decode()
    with contextlib.ExitStack() as stack:
        server = broker or stack.enter_context(RabbitServer())
        hosts = stack.enter_context(Fleet(directory, server, kind="process", **SETTINGS))
        members = []
        for name in NAMES:
            way = None if urls else stack.enter_context(TcpForwarder(server.port))
            at = urls or server.url.replace(f":{server.port}/", f":{way.port if way else 0}/")
            keys = key_file(directory, name, key)
            host = hosts.add(name, amqp_urls=at, keys_file=str(keys))
            host.spawn()
            members.append(ProcessMember(host, keys, way))
        yield World("processes", members, server, key)


@contextlib.contextmanager
def namespaces(directory: Path) -> Iterator[World]:
    """The same, each host with a network of its own."""
    key = generate_key().decode()
    keys = key_file(directory, "all", key)
    with Fleet.in_namespaces(len(NAMES), directory, **SETTINGS, keys_file=str(keys)) as hosts:
        members = []
        for host in hosts:
            assert isinstance(host, NamespaceHost)
            host.spawn()
            members.append(NamespaceMember(host, keys))
        assert isinstance(hosts.broker, RabbitServer)
        yield World("namespaces", members, hosts.broker, key)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[World]:
    """Processes on a RabbitMQ cluster of three, all of whose members each host knows."""
    config = "net_ticktime = 4\ncluster_partition_handling = pause_minority\n"
    with (
        RabbitCluster(3, config=config) as brokers,
        processes(directory, brokers.servers[0], brokers.urls) as world,
    ):
        world.kind, world.cluster = "cluster", brokers
        yield world
