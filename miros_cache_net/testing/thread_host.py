"""A host whose node is a thread of the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.node import CacheNode
from miros_cache_net.testing.cable import Cable, MemoryCable
from miros_cache_net.testing.host import Host, NotRunning


class ThreadHost(Host):
    """In memory or on RabbitMQ, as its cable leads."""

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
            more: dict[str, Any] = {"link_factory": self._cable.link} if isinstance(self._cable, MemoryCable) else {}
            self._node = CacheNode(settings=self.settings, default_json=self._default, clock=self.clock, **more)

    def stop(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.stop()

    def status(self) -> dict[str, Any]:
        return self.node.status()
