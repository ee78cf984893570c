"""The kinds of hosts in tests: a thread, processes, or processes with a network of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.fleet.links import rabbit_link
from miros_cache_net.node import CacheNode
from miros_cache_net.testing.cable import Cable, MemoryCable
from miros_cache_net.testing.host import Host, NotRunning, NotThisKind
from miros_cache_net.testing.network import NetworkHost
from miros_cache_net.testing.node_process import NodeProcess


class ThreadHost(Host):
    """Its node is a thread of the test's own process; its cable leads to a broker in memory or to RabbitMQ."""

    kind: ClassVar[str] = "thread"

    def __init__(
        self,
        values: Mapping[str, Any],
        cable: Cable,
        *,
        default: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(values, cable, clock)
        self._default = default
        self._node: CacheNode | None = None

    @property
    def node(self) -> CacheNode:
        if self._node is None:
            raise NotRunning(self.name)
        return self._node

    @property
    def running(self) -> bool:
        return self._node is not None

    def start(self) -> None:
        if self._node is None:
            # Hosts do not share a link, even in one process.
            link = self._cable.link if isinstance(self._cable, MemoryCable) else rabbit_link
            self._node = CacheNode(
                settings=self.settings, default_json=self._default, clock=self.clock, link_factory=link
            )

    def stop(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.stop()

    def status(self) -> dict[str, Any]:
        return dict(self.node.status())


class ProcessHost(Host):
    """One process, or more after `spawn`: the first is the bridge, the others follow it."""

    kind: ClassVar[str] = "process"

    def __init__(self, values: Mapping[str, Any], cable: Cable, *, default: Mapping[str, Any] | None = None) -> None:
        super().__init__(values, cable)
        if isinstance(cable, MemoryCable):
            raise NotThisKind(f"{self.name}, a process, cannot reach a broker in memory: give its fleet a RabbitServer")
        self._default = default
        self._processes: list[NodeProcess] = []

    @property
    def processes(self) -> list[NodeProcess]:
        return [process for process in self._processes if process.running]

    @property
    def running(self) -> bool:
        return bool(self.processes)

    def start(self) -> None:
        if not self.running:
            self.spawn()

    def spawn(self) -> NodeProcess:
        process = NodeProcess(
            self._values,
            self.directory,
            default=self._default,
            skew_s=self.clock.skew_s,
            environment=self.environment(),
            command=self.command,
        )
        self._processes.append(process)
        process.wait_for_start()
        return process

    def stop(self) -> None:
        while self._processes:
            self._processes.pop().stop()

    def kill(self) -> None:
        while self._processes:
            self._processes.pop().kill()

    def status(self) -> dict[str, Any]:
        if not self.running:
            raise NotRunning(self.name)
        return self.processes[0].status()

    def skew(self, seconds: float) -> None:
        super().skew(seconds)
        for process in self.processes:
            process.ask("skew", seconds=seconds)


class NamespaceHost(ProcessHost):
    """Its processes have the loopback, the ports and the address of `network_host`."""

    kind: ClassVar[str] = "namespace"

    def __init__(
        self,
        values: Mapping[str, Any],
        cable: Cable,
        network_host: NetworkHost,
        *,
        default: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(values, cable, default=default)
        self.network_host = network_host

    def command(self, command: Sequence[str]) -> list[str]:
        return self.network_host.command(command)
