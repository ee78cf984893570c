"""Any expensive discovery, once for all who want its result: behind `Cache.get_or_discover`.  Layer 5."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from miros_cache_net.document import Stamp
from miros_cache_net.errors import DiscoveryTimeout, Superseded
from miros_cache_net.host.asking import ask_bridges
from miros_cache_net.host.discovery_lock import discovery_lock_path
from miros_cache_net.host.messages import LEASE
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.os_errors import store_error

log = logging.getLogger(__name__)

#: What a bridge may take for its answer; it asks the broker.
_ANSWER_S: Final = 5.0
#: When the fleet is asked again while another host discovers.
_AGAIN_S: Final = (1.0, 2.0)

Discovery = Callable[[], Mapping[str, Any]]


class DiscoverableCache(Protocol):
    """What this needs of `client.Cache`."""

    path: Path

    def read(self) -> CacheReadPayload: ...

    def read_or_repair(self) -> CacheReadPayload: ...

    def wait(
        self, predicate: Callable[[CacheReadPayload], bool] | None = None, timeout_s: float | None = None
    ) -> CacheReadPayload | None: ...

    def write_discovered(self, contents: Mapping[str, Any], began: Stamp) -> CacheReadPayload: ...

    def stamp_now(self) -> Stamp: ...


def get_or_discover(cache: DiscoverableCache, discovery: Discovery, timeout_s: float | None) -> CacheReadPayload:
    """See `Cache.get_or_discover`."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        payload = cache.read_or_repair()
        if not payload.expired:
            return payload
        lock = KernelLock(discovery_lock_path(cache.path))
        try:
            _wait_for(lock, cache.path, deadline_s)
            payload = cache.read_or_repair()
            if not payload.expired:
                return payload
            if False not in ask_bridges(cache.path, LEASE, _ANSWER_S):
                return _discover(cache, discovery)
        finally:
            lock.close()
        pause_s = random.uniform(*_AGAIN_S)
        cache.wait(lambda payload: not payload.expired, _at_most(pause_s, cache.path, deadline_s))


def _discover(cache: DiscoverableCache, discovery: Discovery) -> CacheReadPayload:
    began = cache.stamp_now()
    contents = discovery()
    try:
        return cache.write_discovered(contents, began)
    except Superseded as error:
        log.warning("%s: %s; that one is used", cache.path, error)
        return cache.read()


def _wait_for(lock: KernelLock, path: Path, deadline_s: float | None) -> None:
    """The kernel tells when whoever discovers on this host is done, or has died."""
    granted = threading.Event()
    while not _try(lock, path):
        granted.clear()
        lock.await_grant(granted.set)
        while not granted.wait(_at_most(None, path, deadline_s)):
            pass  # the time is up, which the next look at it says


def _try(lock: KernelLock, path: Path) -> bool:
    try:
        return lock.try_lock()
    except OSError as error:
        raise store_error(error, path) from error


def _at_most(pause_s: float | None, path: Path, deadline_s: float | None) -> float | None:
    if deadline_s is None:
        return pause_s
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise DiscoveryTimeout(f"{path}: somebody else is discovering and has not finished in the time given")
    return left_s if pause_s is None else min(pause_s, left_s)
