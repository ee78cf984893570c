"""The part of a `CacheNode` that a discovery chart needs, so that the node is its only required argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.settings import Settings

#: The key in payloads that have to name one.  Nothing is ever published at the peers, so its value does not matter.
ROUTING_KEY: Final = "cache.#"
#: How long a node's chart waits for the fleet before it discovers without it.
FLEET_WAIT_S: Final = 5.0


class Member(Protocol):
    """A host's place in its fleet: `CacheNode`."""

    @property
    def settings(self) -> Settings: ...

    @property
    def file_chart(self) -> CacheFileChart: ...

    def ask_turn(self, done: Callable[[bool], None]) -> None: ...


def settings_of(node: Member) -> Settings:
    """The node's settings for its document, which the challenge to a peer names."""
    return node.settings.for_file(node.file_chart.path)
