"""May I discover now?  Asked and answered here, for every program that finds a document expired.

`Cache.get_or_discover`, and with it the command `discover`, goes through `discover_once`; `LanChart` drives a
`SingleFlight` as its events come in.  How the fleet is asked comes in as a callable: this file knows neither fleet nor
node.

The words, which every other file uses as they are meant here:

discovery       finding out, at some expense, what a document is to hold
turn            the right to begin a discovery: the discovery lock, and in a fleet the lease as well
discovery lock  picks one process of a host: a kernel lock on a file beside the document, which ends with its process
lease           picks one host of a fleet: a queue at the broker that only one bridge can have, and that it keeps while
                any process of its host has the discovery lock
beginning       what a discovery takes once it has its turn (`store.changes.Beginning`): its result counts from then
superseded      said of a result if the document was written as a whole since its beginning; it is dropped
rest            how long a host keeps to its own last discovery of a document, whatever the document looks like

Neither lock nor lease is a fence: a process can be paused, a link can break.  The beginning is the fence.  The rest
keeps one wrong clock from making all hosts discover in turns for ever, because to some each result has expired.
"""

from __future__ import annotations

import enum
import logging
import os
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.layout import TIME_OUT_KEY
from miros_cache_net.errors import DiscoveryTimeout, StoreError, Superseded
from miros_cache_net.limits import DISCOVERED_JUST_NOW_S, STAMP_WALL_MS
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.changes import Beginning
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.paths import beside
from miros_cache_net.store.sidecar import last_discovery

log = logging.getLogger(__name__)

#: A young document is refreshed ahead of its expiry, so that nobody has to wait: at the earliest after this part of its
#: time-out, which is how long a host rests then.
REFRESHED_AFTER: Final = 0.8
#: When the fleet is asked again while another host discovers: a sweep takes about a second.
AGAIN_S: Final = (1.0, 2.0)
#: For how long a host believes that another one discovers; then it does so itself: a stranger may hold the lease and
#: never give it back.  The largest sweep takes four minutes.  Random, so that not all hosts begin at once.
LEASE_PATIENCE_S: Final = (300.0, 450.0)

Discovery = Callable[[], Mapping[str, Any]]


def discovery_lock_path(document: str | os.PathLike[str]) -> str:
    """The file of the discovery lock of `document`."""
    path = os.fspath(document)
    return beside(path, f".{os.path.basename(path)}.discovery.lock")


def time_out_s(cache: CacheReadPayload) -> float:
    """The document's time-out in seconds; 0 where it has none, or one that cannot be understood."""
    minutes = cache.dict.get(TIME_OUT_KEY)
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)):
        return 0.0
    return max(0.0, min(minutes, STAMP_WALL_MS) * 60.0)


def rest_s(cache: CacheReadPayload, clock: Clock) -> float:
    """How long this host still keeps to its own last discovery of what is in the file; 0: it may discover.

    A host discovers at most once in the document's time-out, by its own clock, whatever result is there meanwhile, but
    for the refresh of a young one; and, however short the time-out, not for a program that has just waited for it.
    A discovery in this clock's future says nothing.  Where nothing is there, there is nothing to keep to.
    """
    began_ms, ended_ms = last_discovery(cache.file_path)
    now_ms = clock.wall_ms()
    if cache.last_modified == 0 or max(began_ms, ended_ms) > now_ms:
        return 0.0
    part = 1.0 if cache.expired else REFRESHED_AFTER
    until_ms = max(began_ms + part * time_out_s(cache) * 1000, ended_ms + DISCOVERED_JUST_NOW_S * 1000)
    return max(0.0, (until_ms - now_ms) / 1000) if ended_ms else 0.0


class Step(enum.Enum):
    """What the driver of a `SingleFlight` does next."""

    #: Another process of this host discovers: `await_lock`, then `has_lock` again.
    AWAIT_LOCK = "await_lock"
    #: Ask the fleet for the lease, then `lease_is`; where there is no fleet: ``lease_is(True)``.
    ASK_LEASE = "ask_lease"
    #: Another host discovers: wait for its result, at most `SingleFlight.pause_s`, then `has_lock` again.
    AWAIT_FLEET = "await_fleet"
    #: It is our turn: take the beginning, discover, store the result, `end`.
    DISCOVER = "discover"
    #: What is in the file will do; the turn was given up.
    KEEP = "keep"
    #: Nothing: this was an answer to no question, or to one that was answered before.
    STAY = "stay"


class SingleFlight:
    """One program's turns to discover one document, one after another.  For one thread.

    document  the cache file's path
    will_do   looks at the document: is what is there now good enough?  So it is, too, while this host rests (`rest_s`)
    say       hears, in one line, that the fleet's lease was not waited for any longer
    """

    def __init__(
        self,
        document: str | os.PathLike[str],
        will_do: Callable[[], bool],
        say: Callable[[str], None],
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self._document = os.fspath(document)
        self._lock = KernelLock(discovery_lock_path(document))
        self._will_do, self._say = will_do, say
        self._clock, self._rng = clock, rng or random.Random()
        self._patient_until_s: float | None = None
        self._is_asking = False
        self.pause_s = 0.0

    def has_lock(self) -> Step:
        """Take the discovery lock if it is free, and look at the document: the last holder may have discovered.

        A lock that cannot be had keeps nobody from discovering: in a directory that is read-only, everybody does.
        """
        with suppress(OSError, StoreError):
            if not self._lock.try_lock():
                return Step.AWAIT_LOCK
        step = self._look(Step.ASK_LEASE)
        self._is_asking = step is Step.ASK_LEASE
        return step

    def await_lock(self, free: Callable[[], None]) -> None:
        """Have `free` called, on any thread, as soon as no other process of this host discovers: now, maybe."""
        with suppress(OSError, StoreError):
            if not self._lock.try_lock():
                self._lock.await_grant(free)
                return
        free()

    def lease_is(self, ours: bool) -> Step:
        """What the fleet has said.  A result that came while it was asked will do as well."""
        if not self._is_asking:
            return Step.STAY
        self._is_asking = False
        if not ours and self._is_patient():
            self.end()
            self.pause_s = self._rng.uniform(*AGAIN_S)
            return Step.AWAIT_FLEET
        self._patient_until_s = None
        return self._look(Step.DISCOVER)

    def end(self) -> None:
        """Let the next one."""
        self._is_asking = False
        self._lock.close()

    def _look(self, otherwise: Step) -> Step:
        if not self._will_do():
            return otherwise
        self._patient_until_s = None
        self.end()
        return Step.KEEP

    def _is_patient(self) -> bool:
        now_s = self._clock.monotonic_s()
        if self._patient_until_s is None:
            self._patient_until_s = now_s + self._rng.uniform(*LEASE_PATIENCE_S)
        if now_s < self._patient_until_s:
            return True
        self._say(
            f"{self._document}: another host has had the lease to discover for {LEASE_PATIENCE_S[0] / 60:.0f} minutes "
            "or more, and nothing came of it; discovering anyway"
        )
        return False


# --- for programs that may block ------------------------------------------------------------------------


class DiscoverableCache(Protocol):
    """What `discover_once` needs of `cache.Cache`."""

    @property
    def path(self) -> os.PathLike[str]: ...

    def read_or_repair(self) -> CacheReadPayload: ...

    def wait(
        self, predicate: Callable[[CacheReadPayload], bool] | None = None, timeout_s: float | None = None
    ) -> CacheReadPayload | None: ...

    def begin_discovery(self) -> Beginning: ...

    def write_discovered(self, contents: Mapping[str, Any], began: Beginning) -> CacheReadPayload: ...


def discover_once(
    cache: DiscoverableCache,
    discovery: Discovery,
    ask_lease: Callable[[], bool],
    *,
    clock: Clock = SYSTEM_CLOCK,
    timeout_s: float | None = None,
    force: bool = False,
) -> CacheReadPayload:
    """See `Cache.get_or_discover`.  `ask_lease`: does this host have the fleet's lease, or is there none to have?"""
    deadline_s = None if timeout_s is None else clock.monotonic_s() + timeout_s
    payload = cache.read_or_repair()

    def will_do() -> bool:
        nonlocal payload
        payload = cache.read_or_repair()
        return not force and (not payload.expired or rest_s(payload, clock) > 0)

    if will_do():
        return payload
    flight = SingleFlight(cache.path, will_do, log.warning, clock=clock)
    try:
        step = flight.has_lock()
        while step is not Step.KEEP:
            if step is Step.DISCOVER or (force and step is Step.AWAIT_LOCK):
                return _discover(cache, discovery)
            if step is Step.ASK_LEASE:
                # asked even where the answer does not matter: while the lease is ours, the others wait
                step = flight.lease_is(ask_lease() or force)
                continue
            if step is Step.AWAIT_LOCK:
                _await_lock(flight, cache, clock, deadline_s)
            else:
                pause_s = _at_most(flight.pause_s, cache, clock, deadline_s)
                cache.wait(lambda payload: not payload.expired, pause_s)
            step = flight.has_lock()
        return payload
    finally:
        flight.end()


def _discover(cache: DiscoverableCache, discovery: Discovery) -> CacheReadPayload:
    began = cache.begin_discovery()
    contents = discovery()
    try:
        return cache.write_discovered(contents, began)
    except Superseded as error:
        log.warning("%s: %s; that one is used", cache.path, error)
        return cache.read_or_repair()


def _await_lock(flight: SingleFlight, cache: DiscoverableCache, clock: Clock, deadline_s: float | None) -> None:
    """The kernel tells when the process that discovers on this host is done, or has died."""
    free = threading.Event()
    flight.await_lock(free.set)
    while not free.wait(_at_most(None, cache, clock, deadline_s)):
        pass  # the time is up, which the next look at it says


def _at_most(pause_s: float | None, cache: DiscoverableCache, clock: Clock, deadline_s: float | None) -> float | None:
    if deadline_s is None:
        return pause_s
    left_s = deadline_s - clock.monotonic_s()
    if left_s <= 0:
        raise DiscoveryTimeout(f"{cache.path}: somebody else is discovering and has not finished in the time given")
    return left_s if pause_s is None else min(pause_s, left_s)
