"""A chart that runs one recce and hands on what is published of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.events import LAN_RECCE_COMPLETE, LAN_RECCE_PROGRESS, RECCE_LAN, event
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State

#: Nothing is published at the peers, so no key is asked for by name.
_ROUTING_KEY: Final = "cache.#"


class RecceListener(Chart):
    """Begins a recce of `hosts` (none: of this machine's networks) at once.

    told   called with each `RecceProgressPayload`, then with the `RecceCompletePayload`, on this chart's thread
    """

    STATES = (State("listening", LAN_RECCE_PROGRESS=STAYS, LAN_RECCE_COMPLETE=STAYS),)

    def __init__(self, settings: Settings, hosts: Sequence[str], told: Callable[[Any], object]) -> None:
        super().__init__("recce_listener")
        self._told = told
        self.subscribe(LAN_RECCE_PROGRESS)
        self.subscribe(LAN_RECCE_COMPLETE)
        self.start_at()
        candidates = (lambda: hosts) if hosts else None
        self.recce = LanRecceChart(_ROUTING_KEY, settings.exchange, candidates=candidates, settings=settings)
        # what it reports stands in its payload too, and is said once
        self.recce.log.setLevel(logging.CRITICAL)
        self.recce.post_fifo(event(RECCE_LAN, id(self)))

    def stop(self) -> None:
        """End the recce, wherever it is, and this chart."""
        self.recce.stop()
        super().stop()

    def listening_LAN_RECCE_PROGRESS(self, e: Any) -> int:
        if e.payload.request == id(self):
            self._told(e.payload)
        return HANDLED

    listening_LAN_RECCE_COMPLETE = listening_LAN_RECCE_PROGRESS
