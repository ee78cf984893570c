"""The LAN document behind a cache chart: what it says, what is written into it, when it is due.  For one chart."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from miros.event import Event

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.clock import Clock
from miros_cache_net.discovery import lan_document
from miros_cache_net.errors import CacheNetError
from miros_cache_net.events import CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.payloads import CacheReadPayload, RecceCompletePayload
from miros_cache_net.settings import Settings
from miros_cache_net.single_flight import REFRESHED_AFTER, rest_s, time_out_s
from miros_cache_net.store.changes import AddressedChange, Begin, Beginning, Change, write_of

#: At which part of its time-out a document is refreshed.  At a random one, so that all programs of a fleet do not
#: begin at once; the first one's result puts the others off.
REFRESH_AT: Final = (REFRESHED_AFTER, 0.95)
LONGEST_TIMER_S: Final = 7 * 86_400.0


class Discovered(NamedTuple):
    """Which discovery a document is of: when it was made, and where."""

    at_s: float
    origin: str


NOTHING: Final = Discovered(float("-inf"), "")


class LanFile:
    """Used by one chart's thread; what is asked of the file is posted to `chart`, and answered by its ``CACHE``."""

    def __init__(self, chart: CacheFileChart, settings: Settings, clock: Clock, rng: random.Random) -> None:
        self.chart = chart
        self._settings, self._clock, self._rng = settings, clock, rng

    def is_answered_by(self, e: Event) -> bool:
        """Whether this ``CACHE`` is of this file."""
        return getattr(e.payload, "file_path", None) == self.chart.file_path

    def read(self) -> None:
        """Ask for a ``CACHE``, behind all that was written before."""
        self.chart.post_fifo(event(CACHE_FILE_READ))

    def change(self, change: Change) -> None:
        """Have it made."""
        self.chart.post_fifo(event(CACHE_FILE_WRITE, AddressedChange(change, self.chart.file_path)))

    def begin(self, began: Callable[[Beginning | None], object]) -> None:
        """Have `began` called with the beginning of a discovery, on any thread; None where the file takes none."""
        if self.chart.read_only:
            began(None)
        else:
            self.change(Begin(began))

    def keep(self, result: RecceCompletePayload, began: Beginning, time_out_in_minutes: float) -> None:
        """Write what a recce has found, as of the moment when it `began`."""
        checks = {check.ip_address: check for check in result.checks}
        document = lan_document.render(
            (checks[address] for address in result.other_addresses),
            self._settings,
            seen_at=self._clock.wall_ms() / 1000,
            time_out_in_minutes=time_out_in_minutes,
        )
        self.change(write_of(document, began))

    def contents(self) -> Mapping[str, Any]:
        """The present ones, read without a lock.  Raises `CacheNetError`."""
        return self.chart.document().contents

    def has_other_than(self, known: Discovered) -> bool:
        """Whether there is a young document of another discovery than that one, or this host rests."""
        with suppress(CacheNetError):
            cache = self.chart.store.read().payload(self.chart.file_path, self._clock.wall_ms())
            is_young = lan_document.young_addresses_in(cache) is not None
            return (is_young and discovered(cache) != known) or self.rest_s(cache) > 0
        return False

    def rest_s(self, cache: CacheReadPayload) -> float:
        """How long this host keeps to its own last discovery; 0 where what is in the file is no LAN document."""
        return rest_s(cache, self._clock) if lan_document.addresses_in(cache.dict) is not None else 0.0

    def refresh_in_s(self, cache: CacheReadPayload) -> float | None:
        """When to discover again, ahead of expiry; None: never."""
        if not (whole_s := time_out_s(cache)):
            return None
        at_s = whole_s * self._rng.uniform(*REFRESH_AT)
        return min(max(self.rest_s(cache), at_s - cache.age_s), LONGEST_TIMER_S)


def discovered(cache: CacheReadPayload) -> Discovered:
    """Which discovery this is."""
    return Discovered(cache.last_modified, cache.origin)
