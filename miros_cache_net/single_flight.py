"""May I discover now?  This module decides it for every program that finds a document expired.

`Cache.get_or_discover`, and with it the command `discover`, goes through `one_discovery`; `LanChart` drives a
`SingleFlight` as its events arrive.  The caller passes in a callable that asks the fleet: this module knows neither
fleet nor node.

Every other module uses these terms as they are defined here:

discovery       finding out, at some expense, the contents of a document
turn            the right to begin a discovery: the discovery lock, and in a fleet the lease as well
discovery lock  picks one process of a host: a kernel lock on a file beside the document; it ends with its process
lease           picks one host of a fleet: an exclusive queue at the broker, which one bridge keeps while any process
                of its host has the discovery lock
beginning       taken by a discovery once it has its turn (`store.changes.Beginning`): its result counts from then
superseded      a result is superseded if a whole write came after its beginning; it is dropped
rest            how long a host trusts its own last discovery of a document, whatever the document says

Neither lock nor lease is a fence: a process can be paused, a link can break.  The beginning is the fence.  Without the
rest, one wrong clock would make the hosts discover in turns forever, because each result looks expired to some of them.
"""

from __future__ import annotations

import enum
import os
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.layout import TIME_OUT_KEY
from miros_cache_net.errors import StoreError
from miros_cache_net.limits import DISCOVERED_JUST_NOW_S, STAMP_WALL_MS
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.paths import beside
from miros_cache_net.store.sidecar import last_discovery

#: A young document is refreshed before it expires, so that no caller has to wait: at the earliest after this fraction
#: of its time-out.  A host's rest is then as long.
REFRESHED_AFTER: Final = 0.8
#: Pause before the fleet is asked again while another host discovers: a sweep takes about a second.
AGAIN_S: Final = (1.0, 2.0)
#: How long a host waits for another one's discovery before it discovers by itself: a foreign program may hold the lease
#: and never release it.  The largest sweep takes four minutes.  Random, so that the hosts do not all begin at once.
LEASE_PATIENCE_S: Final = (300.0, 450.0)


def discovery_lock_path(document: str | os.PathLike[str]) -> str:
    """The path of the discovery lock of `document`."""
    path = os.fspath(document)
    return beside(path, f".{os.path.basename(path)}.discovery.lock")


def time_out_s(cache: CacheReadPayload) -> float:
    """The document's time-out in seconds; 0 if it has none or an invalid one."""
    minutes = cache.dict.get(TIME_OUT_KEY)
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)):
        return 0.0
    return max(0.0, min(minutes, STAMP_WALL_MS) * 60.0)


def rest_s(cache: CacheReadPayload, clock: Clock) -> float:
    """How many more seconds this host trusts its own last discovery; 0: it may discover.

    A host discovers at most once per time-out of the document, by its own clock and whatever result the file holds in
    the meantime; the refresh of a young document is the exception.  However short the time-out, a program that has just
    waited for a discovery does not start the next one.  A discovery in this clock's future does not count, nor does any
    while the file holds no discovery.
    """
    began_ms, ended_ms = last_discovery(cache.file_path)
    now_ms = clock.wall_ms()
    if cache.last_modified == 0 or max(began_ms, ended_ms) > now_ms:
        return 0.0
    part = 1.0 if cache.expired else REFRESHED_AFTER
    until_ms = max(began_ms + part * time_out_s(cache) * 1000, ended_ms + DISCOVERED_JUST_NOW_S * 1000)
    return max(0.0, (until_ms - now_ms) / 1000) if ended_ms else 0.0


class Step(enum.Enum):
    """The next step for the driver of a `SingleFlight`."""

    #: Another process of this host discovers: `await_lock`, then `has_lock` again.
    AWAIT_LOCK = "await_lock"
    #: Ask the fleet for the lease, then `lease_is`; without a fleet: ``lease_is(True)``.
    ASK_LEASE = "ask_lease"
    #: Another host discovers: wait for its result, at most `SingleFlight.pause_s`, then `has_lock` again.
    AWAIT_FLEET = "await_fleet"
    #: It is our turn: take the beginning, discover, store the result, `end`.
    DISCOVER = "discover"
    #: The file's contents are good enough; the turn was given up.
    KEEP = "keep"
    #: Nothing to do: the answer belongs to no open question.
    STAY = "stay"


class SingleFlight:
    """One program's successive turns to discover one document.  Use it from one thread only.

    document  the cache file's path
    will_do   reads the document; True if its contents are good enough, which they also are during the rest (`rest_s`)
    say       called with one line when waiting for the fleet's lease is given up
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
        """Take the discovery lock if it is free, and read the document: the last holder may have discovered.

        A lock that the file system refuses does not prevent a discovery: in a read-only directory every process
        discovers.
        """
        with suppress(OSError, StoreError):
            if not self._lock.try_lock():
                return Step.AWAIT_LOCK
        step = self._look(Step.ASK_LEASE)
        self._is_asking = step is Step.ASK_LEASE
        return step

    def await_lock(self, free: Callable[[], None]) -> bool:
        """Arrange a call of `free`, on any thread, once no other process of this host discovers; perhaps at once.

        False: no thread can be started to wait.  `free` is not called then; try again after `pause_s`.
        """
        try:
            if not self._lock.try_lock():
                self._lock.await_grant(free)
                return True
        except RuntimeError:
            self.pause_s = self._rng.uniform(*AGAIN_S)
            return False
        except (OSError, StoreError):
            pass  # there is no point in waiting for a lock that the file system refuses
        free()
        return True

    def lease_is(self, ours: bool) -> Step:
        """Take the fleet's answer: is the lease `ours`?  A result that arrived in the meantime serves as well."""
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
        """Give up the turn, so that the next process gets its own."""
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
            f"{self._document}: another host has held the discovery lease for {LEASE_PATIENCE_S[0] / 60:.0f} minutes "
            "or more without a result; discovering anyway"
        )
        return False
