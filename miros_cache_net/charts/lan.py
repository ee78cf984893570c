"""`LanChart`: the LAN's brokers, from the cache while it is young, else by a recce whose result is cached."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from miros.event import Event

from miros_cache_net.amqp.probe import Prober, ProbeResult, shared_prober
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.charts.connections import Connections, read_once
from miros_cache_net.charts.lan_file import LanFile
from miros_cache_net.charts.lan_recce import LanRecceChart
from miros_cache_net.charts.lan_refresh import LanRefreshChart
from miros_cache_net.charts.peer_check import PeerChecks
from miros_cache_net.charts.single_flight import AskFleet, SingleFlight
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import CacheNetError
from miros_cache_net.events import LAN_RECCE_COMPLETE, event
from miros_cache_net.lan import lan_document
from miros_cache_net.limits import DISCOVERED_JUST_NOW_S
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.state import HANDLED
from miros_cache_net.store.paths import cache_file

DEFAULT_FILE: Final = ".miros_rabbitmq_lan_cache.json"
DEFAULT_TIME_OUT_IN_MINUTES: Final = 30


class LanChart(LanRefreshChart):
    """Finds the LAN's brokers; starts itself.

    Reads the cache.  Young: publishes ``CONNECTION_DISCOVERY`` with `ConnectionDiscoveryPayload` at once (before
    anything else is built: whoever wants to hear it subscribes first), and again whenever its cache chart publishes a
    young document.  Expired, or no LAN document (`lan.lan_document`): has its `LanRecceChart` scout the candidates,
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
        ask_turn: AskFleet | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._connections = Connections(self.settings, "lan_chart")
        path = cache_file(cache_file_path or DEFAULT_FILE)
        self._connections.tell_at_once(
            cache_file_chart.store.read if cache_file_chart else lambda: read_once(path), clock
        )
        super().__init__("lan_chart", live_trace=live_trace, live_spy=live_spy, clock=clock)
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
        self.lan_recce_chart = LanRecceChart(
            routing_key,
            exchange_name,
            live_trace,
            live_spy,
            candidates=candidates,
            settings=self.settings,
            prober=prober,
        )
        self._checks = PeerChecks(
            exchange_name, self.settings, prober or shared_prober(), self._peer_answered, self._rng
        )
        self._turn = SingleFlight(self.cache_file_chart.path, self._post_named, ask_turn)
        self._build_states()
        self.start_at("read_or_discover_network_details")

    def _build_states(self) -> None:
        cache = self.cache_file_chart.system_read_signal_name
        self.read_or_discover_network_details = self.state(
            "read_or_discover_network_details",
            ENTRY_SIGNAL=self.read_or_discover_network_details_ENTRY,
            look_again=self.read_or_discover_network_details_look_again,
            peer_failed=self.read_or_discover_network_details_peer_failed,
            peer_answered=self.read_or_discover_network_details_peer_answered,
            refresh_due=self.read_or_discover_network_details_refresh_due,
            **{cache: self.read_or_discover_network_details_CACHE},
        )
        self.ask_fleet = self.state(
            "ask_fleet",
            parent="read_or_discover_network_details",
            ENTRY_SIGNAL=self.ask_fleet_ENTRY,
            EXIT_SIGNAL=self.ask_fleet_EXIT,
            fleet_is_silent=self.ask_fleet_fleet_is_silent,
            **{cache: self.ask_fleet_CACHE},
        )
        self._build_refresh_states(cache)
        self.subscribe(cache)
        self.subscribe(LAN_RECCE_COMPLETE)

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
        self._turn.end()
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
        if self.clock.monotonic_s() - self._discovered_at_s < DISCOVERED_JUST_NOW_S:
            self._connections.tell(self._discovered, self.publish)
            return HANDLED
        self._serve_stale(e.payload)
        self._known_since_s = e.payload.last_modified
        return self.trans(self.ask_fleet if self._fleet_wait_s and not e.payload.connected else self.await_turn)

    def read_or_discover_network_details_refresh_due(self, e: Event) -> int:
        """Ahead of expiry, so that nobody ever waits: whoever comes first, at a random moment, does it for all."""
        self._known_since_s = e.payload
        return self.trans(self.await_turn)

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
            return self.trans(self.await_turn)
        return self._end_if_younger(e)

    def ask_fleet_fleet_is_silent(self, e: Event) -> int:
        return self.trans(self.await_turn)

    # --- what the handlers share ------------------------------------------------------------------------

    def _peer_answered(self, address: str, result: ProbeResult) -> None:
        self.post_fifo(event("peer_answered", (address, result)))

    def _post_named(self, name: str) -> None:
        self.post_fifo(event(name))

    def _serve_stale(self, cache: CacheReadPayload) -> None:
        addresses = lan_document.addresses_in(cache.dict)
        if cache.stale and addresses:
            self._connections.tell(addresses, self.publish)
