"""The LAN document behind a cache chart: what it says, what is written into it, when it is due.  For one chart."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from miros.event import Event

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.clock import Clock
from miros_cache_net.document import Stamp
from miros_cache_net.errors import CacheNetError
from miros_cache_net.events import CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.lan import lan_document
from miros_cache_net.layout import TIME_OUT_KEY
from miros_cache_net.payloads import CacheReadPayload, RecceCompletePayload
from miros_cache_net.settings import Settings
from miros_cache_net.store.changes import AddressedChange, Change, write_of

#: At which part of its time-out a document is refreshed.  At a random one, so that all programs of a fleet do not
#: begin at once; the first one's result puts the others off.
REFRESH_AT: Final = (0.8, 0.95)
LONGEST_TIMER_S: Final = 7 * 86_400.0


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

    def keep(self, result: RecceCompletePayload, began: Stamp | None, time_out_in_minutes: float) -> None:
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

    def stamp_now(self) -> Stamp | None:
        """For a discovery that begins now; None where the file cannot be read."""
        with suppress(CacheNetError):
            return self.chart.store.stamp_now()
        return None

    def is_younger_than(self, known_since_s: float) -> bool:
        """Whether it is young, and was discovered after that."""
        with suppress(CacheNetError):
            document = self.chart.document()
            discovered_s = document.floor.discovered_at_ms / 1000
            return discovered_s > known_since_s and not document.expired(self._clock.wall_ms())
        return False

    def refresh_in_s(self, cache: CacheReadPayload) -> float | None:
        """When to discover again, ahead of expiry; None: never."""
        minutes = cache.dict.get(TIME_OUT_KEY)
        if not isinstance(minutes, (int, float)) or minutes <= 0:
            return None
        at_s = minutes * 60 * self._rng.uniform(*REFRESH_AT)
        return min(max(0.0, at_s - cache.age_s), LONGEST_TIMER_S)
