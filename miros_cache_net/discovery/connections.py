"""Telling programs of the LAN's brokers: at once what a young file says, and that only once.  For one chart."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from miros.event import Event

from miros_cache_net.clock import Clock
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.peers import connection_url
from miros_cache_net.errors import CacheNetError
from miros_cache_net.events import CONNECTION_DISCOVERY, event
from miros_cache_net.payloads import CacheReadPayload, ConnectionDiscoveryPayload
from miros_cache_net.settings import Settings
from miros_cache_net.statechart import fabric
from miros_cache_net.store.snapshot import Snapshot, read_file

#: How long the thread that builds a chart leaves the interpreter to the subscribers of what it has just told: else it
#: keeps it from them for 5 ms at a time, twice.
_SUBSCRIBERS_FIRST_S: Final = 0.0005


class Connections:
    """Publishes ``CONNECTION_DISCOVERY`` with `dispatcher` as whose it is."""

    def __init__(self, settings: Settings, dispatcher: str) -> None:
        self._settings, self._dispatcher = settings, dispatcher
        self._told_at_once = "", frozenset[int]()

    def tell(self, addresses: Sequence[str], publish: Callable[[Event], None]) -> None:
        """These are the peers: have a chart `publish` it."""
        payload = ConnectionDiscoveryPayload(
            hosts=list(addresses),
            amqp_urls=[connection_url(self._settings, address) for address in addresses],
            dispatcher=self._dispatcher,
        )
        publish(event(CONNECTION_DISCOVERY, payload))

    def tell_at_once(self, read: Callable[[], Snapshot], clock: Clock) -> None:
        """What the file says, read by `read` without a lock, if it is young; before there is a chart that guards it."""
        with contextlib.suppress(CacheNetError, OSError):
            snapshot = read()
            cache = snapshot.payload("", clock.wall_ms())
            addresses = lan_document.young_addresses_in(cache)
            if addresses is not None and not snapshot.foreign:
                self._told_at_once = cache.version, fabric.subscribers(CONNECTION_DISCOVERY)
                self.tell(addresses, fabric.publish)
                time.sleep(_SUBSCRIBERS_FIRST_S)

    def told_at_once(self, cache: CacheReadPayload) -> bool:
        """Whether `tell_at_once` has told this very document to all who listen now; once."""
        told, self._told_at_once = self._told_at_once, ("", frozenset())
        return told == (cache.version, fabric.subscribers(CONNECTION_DISCOVERY))


def read_once(path: str | os.PathLike[str]) -> Snapshot:
    """The file at `path`, read without a lock.  Raises as `read_file`."""
    snapshot, fd = read_file(path)
    os.close(fd)
    return snapshot
