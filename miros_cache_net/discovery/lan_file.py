"""One chart's access to the LAN document behind a cache chart: reads, writes, and the time of the next refresh."""

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

#: The range of the fraction of its time-out after which a document is refreshed.  Random, so that the programs of a
#: fleet do not all begin at once; the first one's result postpones the others.
REFRESH_AT: Final = (REFRESHED_AFTER, 0.95)
LONGEST_TIMER_S: Final = 7 * 86_400.0


class Discovered(NamedTuple):
    """Identifies the discovery that made a document, by its time and host."""

    at_s: float
    origin: str


NOTHING: Final = Discovered(float("-inf"), "")


class LanFile:
    """For one chart's thread.  Requests are posted to `chart`, which answers with its ``CACHE``."""

    def __init__(self, chart: CacheFileChart, settings: Settings, clock: Clock, rng: random.Random) -> None:
        self.chart = chart
        self.old = lan_document.is_old(chart.path)
        self._settings, self._clock, self._rng = settings, clock, rng

    def is_answered_by(self, e: Event) -> bool:
        """Whether this ``CACHE`` is about this file."""
        return getattr(e.payload, "file_path", None) == self.chart.file_path

    def read(self) -> None:
        """Ask for a ``CACHE``; it reflects all earlier writes."""
        self.chart.post_fifo(event(CACHE_FILE_READ))

    def change(self, change: Change) -> None:
        """Post `change` to the cache chart."""
        self.chart.post_fifo(event(CACHE_FILE_WRITE, AddressedChange(change, self.chart.file_path)))

    def begin(self, began: Callable[[Beginning | None], object]) -> None:
        """Call `began` with the beginning of a discovery, on any thread; with None if the chart is read-only."""
        if self.chart.read_only:
            began(None)
        else:
            self.change(Begin(began))

    def keep(self, result: RecceCompletePayload, began: Beginning, time_out_in_minutes: float) -> None:
        """Write the result of a recce, dated to the moment it `began`."""
        checks = {check.ip_address: check for check in result.checks}
        document = lan_document.render(
            (checks[address] for address in result.other_addresses),
            self._settings,
            seen_at=self._clock.wall_ms() / 1000,
            time_out_in_minutes=time_out_in_minutes,
            own=result.my_address if result.my_broker else "",
            old=self.old,
        )
        self.change(write_of(document, began, lan_document.is_foreign))

    def contents(self) -> Mapping[str, Any]:
        """The current contents, read without a lock.  Raises `CacheNetError`."""
        return self.chart.document().contents

    def has_other_than(self, known: Discovered) -> bool:
        """Whether the file has a young document of a discovery other than `known`, or `rest_s` is positive."""
        with suppress(CacheNetError):
            cache = self.chart.store.read().payload(self.chart.file_path, self._clock.wall_ms())
            is_young = lan_document.young_addresses_in(cache) is not None
            return (is_young and discovered(cache) != known) or self.rest_s(cache) > 0
        return False

    def rest_s(self, cache: CacheReadPayload) -> float:
        """How long this host must still keep its own last discovery; 0 if the file contains no LAN document."""
        return rest_s(cache, self._clock) if lan_document.addresses_in(cache.dict) is not None else 0.0

    def refresh_in_s(self, cache: CacheReadPayload) -> float | None:
        """The delay until the next discovery, ahead of expiry; None: never."""
        nobody_s = lan_document.NOBODY_FOUND_MINUTES * 60 if lan_document.found_nobody(cache.dict) else 0.0
        if not (whole_s := time_out_s(cache) or nobody_s):
            return None
        at_s = whole_s * self._rng.uniform(*REFRESH_AT)
        return min(max(self.rest_s(cache), at_s - cache.age_s), LONGEST_TIMER_S)


def discovered(cache: CacheReadPayload) -> Discovered:
    """The discovery that made this document."""
    return Discovered(cache.last_modified, cache.origin)
