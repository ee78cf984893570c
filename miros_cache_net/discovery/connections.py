"""Publishes the LAN's brokers for one chart; publishes a young file's brokers at once, and only once."""

from __future__ import annotations

import contextlib
import os
import threading
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

#: How long the thread that builds a chart releases the GIL to the subscribers after publishing.  Otherwise it would
#: hold the GIL for two switch intervals of 5 ms.
_SUBSCRIBERS_FIRST_S: Final = 0.0005


class Connections:
    """Publishes ``CONNECTION_DISCOVERY``, with `dispatcher` as the payload's origin."""

    def __init__(self, settings: Settings, dispatcher: str) -> None:
        self._settings, self._dispatcher = settings, dispatcher
        self._told_at_once = "", frozenset[int]()
        self._told: ConnectionDiscoveryPayload | None = None
        self._is_told = threading.Condition()

    def tell(self, addresses: Sequence[str], publish: Callable[[Event], None]) -> None:
        """`publish` these peers, and wake the threads in `wait`."""
        payload = ConnectionDiscoveryPayload(
            hosts=list(addresses),
            amqp_urls=[connection_url(self._settings, address) for address in addresses],
            dispatcher=self._dispatcher,
        )
        with self._is_told:
            self._told = payload
            self._is_told.notify_all()
        publish(event(CONNECTION_DISCOVERY, payload))

    def tell_again(self, publish: Callable[[Event], None]) -> None:
        """Publish the last payload again, for late subscribers; without one yet, do nothing: the first will come."""
        if self._told is not None:
            publish(event(CONNECTION_DISCOVERY, self._told))

    def wait(self, timeout_s: float | None) -> ConnectionDiscoveryPayload | None:
        """The last payload published; waits for the first one, None after `timeout_s`.  Callable from any thread."""
        with self._is_told:
            self._is_told.wait_for(lambda: self._told is not None, timeout_s)
            return self._told

    def tell_at_once(self, read: Callable[[], Snapshot], clock: Clock) -> None:
        """Publish the file's peers if it is young, before its chart exists; `read` reads it without a lock."""
        with contextlib.suppress(CacheNetError, OSError):
            snapshot = read()
            cache = snapshot.payload("", clock.wall_ms())
            addresses = lan_document.young_addresses_in(cache)
            if addresses is not None and not snapshot.foreign:
                self._told_at_once = cache.version, fabric.subscribers(CONNECTION_DISCOVERY)
                self.tell(addresses, fabric.publish)
                time.sleep(_SUBSCRIBERS_FIRST_S)

    def told_at_once(self, cache: CacheReadPayload) -> bool:
        """Whether `tell_at_once` published this document version to all present subscribers; True at most once."""
        told, self._told_at_once = self._told_at_once, ("", frozenset())
        return told == (cache.version, fabric.subscribers(CONNECTION_DISCOVERY))


def read_once(path: str | os.PathLike[str]) -> Snapshot:
    """Read the file at `path` without a lock.  Raises as `read_file`."""
    snapshot, fd = read_file(path)
    os.close(fd)
    return snapshot
