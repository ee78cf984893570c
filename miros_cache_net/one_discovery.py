"""One discovery from beginning to end, for any caller that can wait: a thread, or a task of an event loop.

`SingleFlight` decides whose turn it is.  This module carries the turn out, in steps that do not wait by themselves:
`Cache` waits in its thread, `AsyncCache` in its loop.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import DiscoveryRecursion, DiscoveryTimeout, Superseded
from miros_cache_net.logs import module_log
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.single_flight import SingleFlight, Step, rest_s
from miros_cache_net.store.changes import Beginning

log = module_log(__name__)

Discovery = Callable[[], Mapping[str, Any]]
#: Given the name of an existing key, returns whether it stays if the discovery did not return it; None: none stays.
Keeps = Callable[[str], bool] | None


class DiscoverableCache(Protocol):
    """The part of `cache.Cache` that a discovery needs."""

    @property
    def path(self) -> os.PathLike[str]: ...

    def read_or_repair(self) -> CacheReadPayload: ...

    def wait(
        self, predicate: Callable[[CacheReadPayload], bool] | None = None, timeout_s: float | None = None
    ) -> CacheReadPayload | None: ...

    def begin_discovery(self) -> Beginning: ...

    def write_discovered(
        self, contents: Mapping[str, Any], began: Beginning, keeps: Keeps = None
    ) -> CacheReadPayload: ...


class AskLease(NamedTuple):
    """The driver answers True if this host has the fleet's lease or no fleet exists."""


class AwaitLock(NamedTuple):
    """Pass `arm` a callback and wait until it is called, at most as many seconds as `arm` returns (None: forever)."""

    arm: Callable[[Callable[[], None]], float | None]


class AwaitResult(NamedTuple):
    """Wait until the document is young, at most `timeout_s`."""

    timeout_s: float | None


class Discover(NamedTuple):
    """The driver runs the discovery and answers with its result, the whole contents."""


Need = AskLease | AwaitLock | AwaitResult | Discover
#: The documents that the current thread or task is discovering.
_under_way: ContextVar[frozenset[str]] = ContextVar("discoveries under way", default=frozenset())


def discovery_steps(
    cache: DiscoverableCache, *, clock: Clock, timeout_s: float | None, force: bool, keeps: Keeps
) -> Generator[Need, Any, CacheReadPayload]:
    """`Cache.get_or_discover` for a driver that carries out each `Need` and sends the answer; returns the payload.

    The generator itself calls only the file and its locks, which may block.  `close` gives up the turn.
    """
    deadline_s = None if timeout_s is None else clock.monotonic_s() + timeout_s
    payload = cache.read_or_repair()

    def will_do() -> bool:
        nonlocal payload
        payload = cache.read_or_repair()
        return not force and (not payload.expired or rest_s(payload, clock) > 0)

    if will_do():
        return payload
    if os.fspath(cache.path) in _under_way.get():
        raise DiscoveryRecursion(f"{cache.path}: its discovery asks for what it is to find; have it read elsewhere")
    flight = SingleFlight(cache.path, will_do, log.warning, clock=clock)

    def arm(free: Callable[[], None]) -> float | None:
        return _at_most(None if flight.await_lock(free) else flight.pause_s, cache, clock, deadline_s)

    try:
        step = flight.has_lock()
        while step is not Step.KEEP:
            if step is Step.DISCOVER or (force and step is Step.AWAIT_LOCK):
                began = cache.begin_discovery()
                return _store(cache, (yield Discover()), began, keeps)
            if step is Step.ASK_LEASE:
                # Asked even if the answer does not matter: while the lease is ours, the other hosts wait.
                step = flight.lease_is((yield AskLease()) or force)
                continue
            if step is Step.AWAIT_LOCK:
                # The kernel reports when the discovering process of this host has finished or died.
                yield AwaitLock(arm)
            else:
                yield AwaitResult(_at_most(flight.pause_s, cache, clock, deadline_s))
            step = flight.has_lock()
        return payload
    finally:
        flight.end()


@contextlib.contextmanager
def under_way(cache: DiscoverableCache) -> Iterator[None]:
    """The driver calls the discovery inside: a discovery that asks for its own document then raises an error."""
    token = _under_way.set(_under_way.get() | {os.fspath(cache.path)})
    try:
        yield
    finally:
        _under_way.reset(token)


def _store(
    cache: DiscoverableCache, contents: Mapping[str, Any], began: Beginning, keeps: Keeps
) -> CacheReadPayload:  # fmt: skip
    try:
        return cache.write_discovered(contents, began, keeps)
    except Superseded as error:
        log.warning("%s: %s; using that one", cache.path, error)
        return cache.read_or_repair()


def _at_most(pause_s: float | None, cache: DiscoverableCache, clock: Clock, deadline_s: float | None) -> float | None:
    if deadline_s is None:
        return pause_s
    left_s = deadline_s - clock.monotonic_s()
    if left_s <= 0:
        raise DiscoveryTimeout(f"{cache.path}: another program is discovering and did not finish in the time given")
    return left_s if pause_s is None else min(pause_s, left_s)


def discover_once(
    cache: DiscoverableCache,
    discovery: Discovery,
    ask_lease: Callable[[], bool],
    *,
    clock: Clock = SYSTEM_CLOCK,
    timeout_s: float | None = None,
    force: bool = False,
    keeps: Keeps = None,
) -> CacheReadPayload:
    """See `Cache.get_or_discover`.  `ask_lease` returns True if this host has the fleet's lease or no fleet exists."""

    def carry_out(need: Need) -> object:
        if isinstance(need, Discover):
            with under_way(cache):
                return discovery()
        if isinstance(need, AskLease):
            return ask_lease()
        if isinstance(need, AwaitLock):
            free = threading.Event()
            return free.wait(need.arm(free.set))
        return cache.wait(lambda payload: not payload.expired, need.timeout_s)

    steps = discovery_steps(cache, clock=clock, timeout_s=timeout_s, force=force, keeps=keeps)
    with contextlib.closing(steps):
        answer: object = None
        while True:
            try:
                need = steps.send(answer)
            except StopIteration as end:
                payload: CacheReadPayload = end.value
                return payload
            answer = carry_out(need)
