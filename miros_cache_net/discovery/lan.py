"""`LanChart`: the LAN's brokers, from the cache while it is young, else by a recce whose result is cached.

It decides when; what is done is in `LanFile`, `SingleFlight`, `PeerChecks`, `Connections` and `LanRecceChart`.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from miros.event import Event

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.connections import Connections, read_once
from miros_cache_net.discovery.lan_file import NOTHING, LanFile, discovered
from miros_cache_net.discovery.lan_recce import LanRecceChart, recce_backoff_s
from miros_cache_net.discovery.peer_check import PeerChecks
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, shared_prober
from miros_cache_net.errors import CacheNetError, Reason
from miros_cache_net.events import CACHE, LAN_RECCE_COMPLETE, RECCE_LAN, event
from miros_cache_net.payloads import CacheReadPayload, RecceCompletePayload
from miros_cache_net.settings import Settings
from miros_cache_net.settings.which_file import cache_file
from miros_cache_net.single_flight import SingleFlight, Step
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.store.changes import Beginning

DEFAULT_FILE: Final = ".miros_rabbitmq_lan_cache.json"
DEFAULT_TIME_OUT_IN_MINUTES: Final = 30
#: How long the fleet's answer is waited for, and when a bridge too busy to answer is asked once more.
TURN_PATIENCE_S: Final = 10.0
TURN_ONCE_MORE_S: Final = 1.5
#: How long a file that cannot be had delays a recce: longer than a stranger's hold on it is respected.
BEGIN_PATIENCE_S: Final = 20.0


class LanChart(Chart):
    """Finds the LAN's brokers; starts itself.

    Reads the cache.  Young: publishes ``CONNECTION_DISCOVERY`` with `ConnectionDiscoveryPayload` at once (before
    anything else is built: whoever wants to hear it subscribes first), and again whenever its cache chart publishes a
    young document.  Expired, or no LAN document (`lan_document`): has its `LanRecceChart` scout the candidates,
    writes the cache, then publishes it.  A recce that fails leaves the cache as it is; ``CACHE_ERROR`` says why, and
    the next read of the expired document tries again.

    time_out_in_minutes  written with a discovery; None: 30
    cache_file_path      None: ``.miros_rabbitmq_lan_cache.json`` here
    candidates, prober   as for `LanRecceChart`
    cache_file_chart     an existing chart to use in place of one of its own; it is not stopped with this one
    ask_turn             `CacheNode.ask_turn`, so that one host of the fleet discovers and the others get its result
    fleet_wait_s         where that chart's document comes from a fleet: how long an expired one waits for the fleet,
                         until ``CACHE`` says `connected`, before a recce is made

    URLs are put together when published: with the password only where `peers.connection_url` says it may go.
    Raises `SettingsError` where a setting is malformed.
    """

    STATES = (
        State(
            "read_or_discover_network_details",
            ENTRY=STAYS,
            look_again=STAYS,
            peer_failed=STAYS,
            peer_answered=STAYS,
            refresh_due="await_turn",
            CACHE=("await_turn", "ask_fleet"),
        ),
        State(
            "ask_fleet",
            "read_or_discover_network_details",
            ENTRY=STAYS,
            EXIT=STAYS,
            fleet_is_silent="await_turn",
            CACHE=("await_turn", "read_or_discover_network_details"),
        ),
        State(
            "refresh",
            "read_or_discover_network_details",
            EXIT=STAYS,
            refresh_due=STAYS,
            CACHE="read_or_discover_network_details",
        ),
        State(
            "await_turn",
            "refresh",
            ENTRY=STAYS,
            EXIT=STAYS,
            host_turn=("discover_network", "read_or_discover_network_details"),
            turn=("discover_network", "read_or_discover_network_details"),
            no_turn=("discover_network", "read_or_discover_network_details"),
            no_answer=STAYS,
            ask_again=STAYS,
        ),
        State(
            "discover_network",
            "refresh",
            ENTRY=STAYS,
            begun=STAYS,
            LAN_RECCE_COMPLETE=("store_result", "read_or_discover_network_details"),
        ),
        State("store_result", "refresh", ENTRY=STAYS, CACHE="read_or_discover_network_details"),
    )

    def __init__(
        self,
        routing_key: str,
        exchange_name: str,
        time_out_in_minutes: float | None = None,
        cache_file_path: str | os.PathLike[str] | None = None,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        *,
        candidates: Callable[[], Iterable[str]] | None = None,
        settings: Settings | None = None,
        prober: Prober | None = None,
        cache_file_chart: CacheFileChart | None = None,
        fleet_wait_s: float = 0.0,
        ask_turn: Callable[[Callable[[bool], None]], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._connections = Connections(self.settings, "lan_chart")
        path = cache_file(cache_file_path or DEFAULT_FILE)
        self._connections.tell_at_once(
            cache_file_chart.store.read if cache_file_chart else lambda: read_once(path), clock
        )
        cache = CACHE if cache_file_chart is None else cache_file_chart.system_read_signal_name
        super().__init__(
            "lan_chart", live_trace=live_trace, live_spy=live_spy, clock=clock, signal_names={"CACHE": cache}
        )
        self.routing_key, self.exchange_name = routing_key, exchange_name
        self.time_out_in_minutes = DEFAULT_TIME_OUT_IN_MINUTES if time_out_in_minutes is None else time_out_in_minutes
        self._fleet_wait_s = fleet_wait_s
        self._own_cache = cache_file_chart is None
        self._rng = rng or random.Random()
        self.cache_file_chart = cache_file_chart or CacheFileChart(
            path,
            live_trace=live_trace,
            live_spy=live_spy,
            default_json=lan_document.DEFAULT,
            clock=clock,
            node_name=self.settings.node_name,
        )
        self._file = LanFile(self.cache_file_chart, self.settings, clock, self._rng)
        # peers are asked whether they keep the very document that the fleet shares through this chart
        in_fleet = ask_turn is not None or fleet_wait_s > 0
        asked = self.settings.for_file(self.cache_file_chart.path) if in_fleet else self.settings
        self.lan_recce_chart = LanRecceChart(
            routing_key,
            exchange_name,
            live_trace,
            live_spy,
            candidates=candidates,
            settings=asked,
            prober=prober,
        )
        self._checks = PeerChecks(exchange_name, asked, prober or shared_prober(), self._peer_answered, self._rng)
        self._ask_lease = ask_turn
        self._flight = SingleFlight(
            self.cache_file_chart.file_path,
            lambda: self._file.has_other_than(self._known),
            lambda line: self.report(Reason.BROKER, line, self.cache_file_chart.file_name),
            clock=clock,
            rng=self._rng,
        )
        self._request = self._to_begin = ""
        self._began: Beginning | None = None
        self._failures = 0
        self._known = NOTHING
        self.subscribe(cache)
        self.subscribe(LAN_RECCE_COMPLETE)
        self.start_at()

    def report_failure(self, address: str) -> None:
        """A program could not reach the cached peer `address` (``host`` or ``host:port``, as in the document).

        It is scouted again, and if it is really gone it leaves the document of every host; it is looked for ever
        more rarely from then on, and returns once it is there again.  From any thread; an address that is no peer
        of the document is ignored.
        """
        self.post_fifo(event("peer_failed", address))

    def stop(self) -> None:
        """End this chart, its recce and its own cache chart; the file stays."""
        super().stop()
        self._flight.end()
        self.lan_recce_chart.stop()
        if self._own_cache:
            self.cache_file_chart.stop()

    # --- states ---------------------------------------------------------------------------------------

    def read_or_discover_network_details_ENTRY(self, e: Event) -> int:
        self._file.read()
        return HANDLED

    def read_or_discover_network_details_look_again(self, e: Event) -> int:
        self._file.read()
        return HANDLED

    def read_or_discover_network_details_CACHE(self, e: Event) -> int:
        if not self._file.is_answered_by(e):
            return HANDLED
        if (addresses := lan_document.young_addresses_in(e.payload)) is not None:
            if self._connections.told_at_once(e.payload):
                self.scribble("CONNECTION_DISCOVERY was published at once")
            else:
                self._connections.tell(addresses, self.publish)
            self._plan_refresh(e.payload)
            return HANDLED
        rests, stale = self._file.rest_s(e.payload) > 0, lan_document.addresses_in(e.payload.dict)
        if e.payload.stale and (stale or rests):
            self._connections.tell(stale or [], self.publish)
        if rests:
            self._plan_refresh(e.payload)
            return HANDLED
        self._known = discovered(e.payload)
        return self.trans("ask_fleet" if self._fleet_wait_s and not e.payload.connected else "await_turn")

    def read_or_discover_network_details_refresh_due(self, e: Event) -> int:
        """Ahead of expiry, so that nobody ever waits: the first program, at a random moment, does it for all."""
        self._known = e.payload
        return self.trans("await_turn")

    def read_or_discover_network_details_peer_failed(self, e: Event) -> int:
        with suppress(CacheNetError, ValueError):
            self._checks.look_at(str(e.payload), self._file.contents())
        return HANDLED

    def read_or_discover_network_details_peer_answered(self, e: Event) -> int:
        address, result = e.payload
        change, again_s = self._checks.verdict(address, result, self._file.contents(), self.clock.wall_ms() / 1000)
        if change is not None:
            self._file.change(change)
            self._file.read()
        if again_s is not None:
            self.post_later(event("peer_failed", address), again_s)
        return HANDLED

    def ask_fleet_ENTRY(self, e: Event) -> int:
        self.post_later(event("fleet_is_silent"), self._fleet_wait_s)
        return HANDLED

    def ask_fleet_EXIT(self, e: Event) -> int:
        self.cancel_events("fleet_is_silent")
        return HANDLED

    def ask_fleet_CACHE(self, e: Event) -> int:
        if self._file.is_answered_by(e) and lan_document.young_addresses_in(e.payload) is None and e.payload.connected:
            return self.trans("await_turn")
        return self._end_if_younger(e)

    def ask_fleet_fleet_is_silent(self, e: Event) -> int:
        return self.trans("await_turn")

    def refresh_CACHE(self, e: Event) -> int:
        return self._end_if_younger(e)

    def refresh_refresh_due(self, e: Event) -> int:
        return HANDLED  # it is under way

    def refresh_EXIT(self, e: Event) -> int:
        self._flight.end()
        self.cancel_events("begun")
        return HANDLED

    def await_turn_ENTRY(self, e: Event) -> int:
        self._flight.await_lock(self._lock_is_free)
        return HANDLED

    def await_turn_EXIT(self, e: Event) -> int:
        for waiting in ("turn", "no_answer", "ask_again"):
            self.cancel_events(waiting)
        return HANDLED

    def await_turn_ask_again(self, e: Event) -> int:
        self._flight.await_lock(self._lock_is_free)
        return HANDLED

    def await_turn_host_turn(self, e: Event) -> int:
        """No other process of this host discovers; one may just have."""
        return self._take(self._flight.has_lock())

    def await_turn_no_answer(self, e: Event) -> int:
        self._ask_fleet()
        return HANDLED

    def await_turn_turn(self, e: Event) -> int:
        return self._take(self._flight.lease_is(True))

    def await_turn_no_turn(self, e: Event) -> int:
        """Another host discovers: its result comes as ``CACHE``; if it dies, somebody else begins."""
        self.cancel_events("turn")
        self.cancel_events("no_answer")
        return self._take(self._flight.lease_is(False))

    def discover_network_ENTRY(self, e: Event) -> int:
        request = self._request = self._to_begin = uuid.uuid4().hex
        self._file.begin(lambda began: self.post_fifo(event("begun", (request, began))))
        self.post_later(event("begun", (request, None)), BEGIN_PATIENCE_S)
        return HANDLED

    def discover_network_begun(self, e: Event) -> int:
        request, began = e.payload
        if request == self._to_begin:
            self._to_begin, self._began = "", began
            self.cancel_events("begun")
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
        # of a file that could not be had it is not known what was written to it meanwhile
        if self._began is not None:
            self._file.keep(result, self._began, self.time_out_in_minutes)
        self._connections.tell(result.other_addresses, self.publish)
        return self.trans("store_result")

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

    def _take(self, step: Step) -> int:
        """The next step to a younger document."""
        if step is Step.AWAIT_LOCK:
            self._flight.await_lock(self._lock_is_free)
        elif step is Step.ASK_LEASE:
            # an answer that never comes, from a bridge that hangs, must not keep everybody from discovering
            self.post_later(event("turn"), TURN_PATIENCE_S)
            self._ask_fleet()
        elif step is Step.AWAIT_FLEET:
            self.post_later(event("ask_again"), self._flight.pause_s)
        elif step is Step.DISCOVER:
            return self.trans("discover_network")
        elif step is Step.KEEP:
            self.post_fifo(event("look_again"))
            return self.trans("read_or_discover_network_details")
        return HANDLED

    def _ask_fleet(self) -> None:
        if self._ask_lease is None:
            self._lease_is(True)
        else:
            self.post_later(event("no_answer"), TURN_ONCE_MORE_S)
            self._ask_lease(self._lease_is)

    def _end_if_younger(self, e: Event) -> int:
        """Somebody else's discovery came first: its result will do."""
        if not self._file.is_answered_by(e) or (addresses := lan_document.young_addresses_in(e.payload)) is None:
            return HANDLED
        if discovered(e.payload) == self._known:
            return HANDLED  # the one that is to be refreshed
        self._connections.tell(addresses, self.publish)
        self._plan_refresh(e.payload)
        return self.trans("read_or_discover_network_details")

    def _plan_refresh(self, cache: CacheReadPayload) -> None:
        delay_s = self._file.refresh_in_s(cache)
        if delay_s is not None:
            self.cancel_events("refresh_due")
            self.post_later(event("refresh_due", discovered(cache)), delay_s)

    # --- from any thread ----------------------------------------------------------------------------------

    def _lock_is_free(self) -> None:
        self.post_fifo(event("host_turn"))

    def _lease_is(self, ours: bool) -> None:
        self.post_fifo(event("turn" if ours else "no_turn"))

    def _peer_answered(self, address: str, result: ProbeResult) -> None:
        self.post_fifo(event("peer_answered", (address, result)))
