"""How a `LanChart` gets a younger document: whose turn it is, the recce, the result in the file."""

from __future__ import annotations

import random
import uuid
from typing import Final

from miros.event import Event

from miros_cache_net.charts.connections import Connections
from miros_cache_net.charts.lan_file import LanFile
from miros_cache_net.charts.lan_recce import LanRecceChart
from miros_cache_net.charts.single_flight import SingleFlight
from miros_cache_net.document import Stamp
from miros_cache_net.events import RECCE_LAN, event
from miros_cache_net.lan import lan_document
from miros_cache_net.payloads import CacheReadPayload, RecceCompletePayload
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED

#: When the fleet is asked again while another host discovers: a sweep takes about a second.
TURN_AGAIN_S: Final = (1.0, 2.0)
#: How long the fleet's answer is waited for, and when a bridge too busy to answer is asked once more.
TURN_PATIENCE_S: Final = 10.0
TURN_ONCE_MORE_S: Final = 1.5
_BACKOFF_BASE_S: Final = 2.0
_BACKOFF_TOP_S: Final = 300.0


def recce_backoff_s(failures: int, rng: random.Random) -> float:
    """How long to wait after so many recces that failed, one after the other."""
    return rng.uniform(0.5, 1.0) * min(_BACKOFF_TOP_S, _BACKOFF_BASE_S * 2.0 ** min(failures, 20))


class LanRefreshChart(Chart):
    """States ``refresh`` > {``await_turn``, ``discover_network``, ``store_result``}, for inside a state of a subclass.

    Leaves them for ``read_or_discover_network_details``, which the subclass declares first, as it sets the attributes
    below.
    """

    time_out_in_minutes: float
    lan_recce_chart: LanRecceChart
    _file: LanFile
    _connections: Connections
    _turn: SingleFlight
    _rng: random.Random

    def _build_refresh_states(self, cache: str) -> None:
        self._request = ""
        self._failures = 0
        self._began: Stamp | None = None
        self._discovered: list[str] = []
        self._discovered_at_s = self._known_since_s = float("-inf")
        self.refresh = self.state(
            "refresh",
            parent="read_or_discover_network_details",
            EXIT_SIGNAL=self.refresh_EXIT,
            refresh_due=self.refresh_refresh_due,
            **{cache: self.refresh_CACHE},
        )
        self.await_turn = self.state(
            "await_turn",
            parent="refresh",
            ENTRY_SIGNAL=self.await_turn_ENTRY,
            EXIT_SIGNAL=self.await_turn_EXIT,
            host_turn=self.await_turn_host_turn,
            turn=self.await_turn_turn,
            no_turn=self.await_turn_no_turn,
            no_answer=self.await_turn_no_answer,
            ask_again=self.await_turn_ask_again,
        )
        self.discover_network = self.state(
            "discover_network",
            parent="refresh",
            ENTRY_SIGNAL=self.discover_network_ENTRY,
            LAN_RECCE_COMPLETE=self.discover_network_LAN_RECCE_COMPLETE,
        )
        self.store_result = self.state(
            "store_result",
            parent="refresh",
            ENTRY_SIGNAL=self.store_result_ENTRY,
            **{cache: self.store_result_CACHE},
        )

    def refresh_CACHE(self, e: Event) -> int:
        return self._end_if_younger(e)

    def refresh_refresh_due(self, e: Event) -> int:
        return HANDLED  # it is under way

    def refresh_EXIT(self, e: Event) -> int:
        self._turn.end()
        return HANDLED

    def await_turn_ENTRY(self, e: Event) -> int:
        self._turn.begin()
        return HANDLED

    def await_turn_EXIT(self, e: Event) -> int:
        for waiting in ("turn", "no_answer", "ask_again"):
            self.cancel_events(waiting)
        return HANDLED

    def await_turn_ask_again(self, e: Event) -> int:
        self._turn.begin()
        return HANDLED

    def await_turn_host_turn(self, e: Event) -> int:
        """No other process of this host discovers; one may just have."""
        if self._file.is_younger_than(self._known_since_s):
            return self._read_again()
        # an answer that never comes, from a bridge that hangs, must not keep everybody from discovering
        self.post_later(event("turn"), TURN_PATIENCE_S)
        return self.await_turn_no_answer(e)

    def await_turn_no_answer(self, e: Event) -> int:
        self.post_later(event("no_answer"), TURN_ONCE_MORE_S)
        self._turn.go_on()
        return HANDLED

    def await_turn_turn(self, e: Event) -> int:
        return self.trans(self.discover_network)

    def await_turn_no_turn(self, e: Event) -> int:
        """Another host discovers: its result comes as ``CACHE``; if it dies, somebody else begins."""
        self.cancel_events("turn")
        self.cancel_events("no_answer")
        self._turn.end()
        self.post_later(event("ask_again"), self._rng.uniform(*TURN_AGAIN_S))
        return HANDLED

    def discover_network_ENTRY(self, e: Event) -> int:
        self._request = uuid.uuid4().hex
        self._began = self._file.stamp_now()
        self.lan_recce_chart.post_fifo(event(RECCE_LAN, self._request))
        return HANDLED

    def discover_network_LAN_RECCE_COMPLETE(self, e: Event) -> int:
        result = e.payload
        if not isinstance(result, RecceCompletePayload) or result.request != self._request:
            return HANDLED  # somebody else's, or of a discovery that was overtaken
        if result.failed:
            self._failures += 1
            self.post_later(event("look_again"), recce_backoff_s(self._failures, self._rng))
            return self.trans("read_or_discover_network_details")
        self._failures = 0
        self._discovered, self._discovered_at_s = result.other_addresses, self.clock.monotonic_s()
        self._file.keep(result, self._began, self.time_out_in_minutes)
        self._connections.tell(result.other_addresses, self.publish)
        return self.trans(self.store_result)

    def store_result_ENTRY(self, e: Event) -> int:
        """The turn is given up only when the result is in the file; this read is answered after that write."""
        self._file.read()
        return HANDLED

    def store_result_CACHE(self, e: Event) -> int:
        if not self._file.is_answered_by(e):
            return HANDLED
        self._plan_refresh(e.payload)
        return self.trans("read_or_discover_network_details")

    # --- what the handlers share ------------------------------------------------------------------------

    def _read_again(self) -> int:
        self.post_fifo(event("look_again"))
        return self.trans("read_or_discover_network_details")

    def _end_if_younger(self, e: Event) -> int:
        """Somebody else's discovery came first: its result will do."""
        if not self._file.is_answered_by(e) or (addresses := lan_document.young_addresses_in(e.payload)) is None:
            return HANDLED
        if e.payload.last_modified <= self._known_since_s:
            return HANDLED  # the one that is to be refreshed
        self._connections.tell(addresses, self.publish)
        self._plan_refresh(e.payload)
        return self.trans("read_or_discover_network_details")

    def _plan_refresh(self, cache: CacheReadPayload) -> None:
        delay_s = self._file.refresh_in_s(cache)
        if delay_s is not None:
            self.cancel_events("refresh_due")
            self.post_later(event("refresh_due", cache.last_modified), delay_s)
