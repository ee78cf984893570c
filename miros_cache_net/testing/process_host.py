"""A host whose nodes are processes, on this machine's network or in a namespace of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from miros_cache_net.testing.cable import Cable, MemoryCable
from miros_cache_net.testing.host import Host, NotRunning, NotThisKind
from miros_cache_net.testing.network import NetworkHost
from miros_cache_net.testing.node_process import NodeProcess


class ProcessHost(Host):
    """One process, or more where `spawn` was called: the first is the bridge, the others follow it."""

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
