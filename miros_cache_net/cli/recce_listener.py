"""A chart that runs one recce and passes on what the recce publishes.

It is separate from `discover`, so that help does not load the charts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.discovery.member import ROUTING_KEY
from miros_cache_net.discovery.old_mesh import OLD_EXCHANGE, OldMeshProber
from miros_cache_net.events import LAN_RECCE_COMPLETE, LAN_RECCE_PROGRESS, RECCE_LAN, event
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State


class RecceListener(Chart):
    """Starts a recce of `hosts` (none: those of the settings) at once.

    legacy   looks for brokers of the old package's mesh
    told     called with each `RecceProgressPayload`, then with the `RecceCompletePayload`, on this chart's thread
    """

    STATES = (State("listening", LAN_RECCE_PROGRESS=STAYS, LAN_RECCE_COMPLETE=STAYS),)

    def __init__(
        self, settings: Settings, hosts: Sequence[str], told: Callable[[Any], object], *, legacy: bool = False
    ) -> None:
        super().__init__("recce_listener")
        self._told = told
        self.subscribe(LAN_RECCE_PROGRESS)
        self.subscribe(LAN_RECCE_COMPLETE)
        self.start_at()
        candidates = (lambda: hosts) if hosts else None
        self.recce = LanRecceChart(
            ROUTING_KEY,
            OLD_EXCHANGE if legacy else settings.exchange,
            candidates=candidates,
            settings=settings,
            prober=OldMeshProber() if legacy else None,
            asks_own=lan_document.is_old(settings.file),
        )
        # the payload carries what it would log
        self.recce.log.setLevel(logging.CRITICAL)
        self.recce.post_fifo(event(RECCE_LAN, id(self)))

    def stop(self) -> None:
        """Stop the recce, whatever its state, and this chart."""
        self.recce.stop()
        super().stop()

    def _listening_LAN_RECCE_PROGRESS(self, e: Any) -> int:
        if e.payload.request == id(self):
            self._told(e.payload)
        return HANDLED

    _listening_LAN_RECCE_COMPLETE = _listening_LAN_RECCE_PROGRESS
