"""`LanChart`: the LAN's brokers, from the cache while it is young, else by a recce whose result is cached."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from miros.event import Event, return_status

from miros_cache_net.amqp.probe import Prober, ProbeResult, shared_prober
from miros_cache_net.charts.cache_file import CacheFileChart
from miros_cache_net.charts.chart import Chart
from miros_cache_net.charts.connections import Connections, read_once
from miros_cache_net.charts.lan_recce import LanRecceChart
from miros_cache_net.charts.peer_check import PeerChecks
from miros_cache_net.charts.single_flight import AskFleet, SingleFlight
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document import Stamp
from miros_cache_net.errors import CacheNetError
from miros_cache_net.events import (
    CACHE_FILE_READ,
    CACHE_FILE_WRITE,
    LAN_RECCE_COMPLETE,
    RECCE_LAN,
    event,
)
from miros_cache_net.lan import lan_document
from miros_cache_net.layout import TIME_OUT_KEY
from miros_cache_net.limits import DISCOVERED_JUST_NOW_S
from miros_cache_net.payloads import RecceCompletePayload
from miros_cache_net.settings import Settings
from miros_cache_net.store.changes import AddressedChange, write_of
from miros_cache_net.store.paths import cache_file

HANDLED: Final = int(return_status.HANDLED)

DEFAULT_FILE: Final = ".miros_rabbitmq_lan_cache.json"
DEFAULT_TIME_OUT_IN_MINUTES: Final = 30
#: When the fleet is asked again while another host discovers: a sweep takes about a second.
TURN_AGAIN_S: Final = (1.0, 2.0)
#: How long the fleet's answer is waited for.
TURN_PATIENCE_S: Final = 3.0
#: At which part of its time-out a document is refreshed.  At a random one, so that all programs of a fleet do not
#: begin at once; the first one's result puts the others off.
REFRESH_AT: Final = (0.8, 0.95)
LONGEST_TIMER_S: Final = 7 * 86_400.0
_BACKOFF_BASE_S: Final = 2.0
_BACKOFF_TOP_S: Final = 300.0


def recce_backoff_s(failures: int, rng: random.Random) -> float:
    """How long to wait after so many recces that failed, one after the other."""
    return rng.uniform(0.5, 1.0) * min(_BACKOFF_TOP_S, _BACKOFF_BASE_S * 2.0 ** min(failures, 20))


class LanChart(Chart):
    """Finds the LAN's brokers; starts itself.

    Reads the cache.  Young: publishes ``CONNECTION_DISCOVERY`` with `ConnectionDiscoveryPayload` at once (before
    anything else is built: whoever wants to hear it subscribes first), and again whenever its cache chart publishes a
    young document.  Expired, or no LAN document (`lan.lan_document`): has its
    `LanRecceChart` scout the candidates, writes the cache, then publishes it.  A recce that fails leaves the cache
    as it is; ``CACHE_ERROR`` says why, and the next read of the expired document tries again.

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
        self._request = ""
        self._discovered: list[str] = []
        self._discovered_at_s = float("-inf")
        self._own_cache = cache_file_chart is None
        self._rng = rng or random.Random()
        self._failures = 0
        self._known_since_s = float("-inf")
        self._began: Stamp | None = None
        self.cache_file_chart = cache_file_chart or CacheFileChart(
            path,
            live_trace=live_trace,
            live_spy=live_spy,
            default_json=lan_document.DEFAULT,
            clock=clock,
            node_name=self.settings.node_name,
        )
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
        self.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        return HANDLED

    def read_or_discover_network_details_look_again(self, e: Event) -> int:
        self.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        return HANDLED

    def read_or_discover_network_details_CACHE(self, e: Event) -> int:
        if not self._is_mine(e):
            return HANDLED
        if (addresses := self._young(e)) is not None:
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
            self._checks.look_at(str(e.payload), self.cache_file_chart.document().contents)
        return HANDLED

    def read_or_discover_network_details_peer_answered(self, e: Event) -> int:
        address, result = e.payload
        contents = self.cache_file_chart.document().contents
        change, again_s = self._checks.verdict(address, result, contents, self.clock.wall_ms() / 1000)
        if change is not None:
            update = AddressedChange(change, self.cache_file_chart.file_path)
            self.cache_file_chart.post_fifo(event(CACHE_FILE_WRITE, update))
            self.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
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
        if self._is_mine(e) and self._young(e) is None and e.payload.connected:
            return self.trans(self.await_turn)
        return self._end_if_younger(e)

    def ask_fleet_fleet_is_silent(self, e: Event) -> int:
        return self.trans(self.await_turn)

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
        self.cancel_events("turn")
        self.cancel_events("ask_again")
        return HANDLED

    def await_turn_ask_again(self, e: Event) -> int:
        self._turn.begin()
        return HANDLED

    def await_turn_host_turn(self, e: Event) -> int:
        """No other process of this host discovers; one may just have."""
        if self._is_known_younger():
            return self._read_again()
        # an answer that never comes, from a bridge that hangs, must not keep everybody from discovering
        self.post_later(event("turn"), TURN_PATIENCE_S)
        self._turn.go_on()
        return HANDLED

    def await_turn_turn(self, e: Event) -> int:
        return self.trans(self.discover_network)

    def await_turn_no_turn(self, e: Event) -> int:
        """Another host discovers: its result comes as ``CACHE``; if it dies, somebody else begins."""
        self.cancel_events("turn")
        self._turn.end()
        self.post_later(event("ask_again"), self._rng.uniform(*TURN_AGAIN_S))
        return HANDLED

    def discover_network_ENTRY(self, e: Event) -> int:
        self._request = uuid.uuid4().hex
        self._began = self._stamp_now()
        self.lan_recce_chart.post_fifo(event(RECCE_LAN, self._request))
        return HANDLED

    def discover_network_LAN_RECCE_COMPLETE(self, e: Event) -> int:
        result = e.payload
        if not isinstance(result, RecceCompletePayload) or result.request != self._request:
            return HANDLED  # somebody else's, or of a discovery that was overtaken
        if result.failed:
            self._failures += 1
            self.post_later(event("look_again"), recce_backoff_s(self._failures, self._rng))
            return self.trans(self.read_or_discover_network_details)
        self._failures = 0
        self._keep(result)
        return self.trans(self.store_result)

    def store_result_ENTRY(self, e: Event) -> int:
        """The turn is given up only when the result is in the file; this read is answered after that write."""
        self.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        return HANDLED

    def store_result_CACHE(self, e: Event) -> int:
        if not self._is_mine(e):
            return HANDLED
        self._plan_refresh(e.payload)
        return self.trans(self.read_or_discover_network_details)

    # --- what the handlers share ------------------------------------------------------------------------

    def _peer_answered(self, address: str, result: ProbeResult) -> None:
        self.post_fifo(event("peer_answered", (address, result)))

    def _post_named(self, name: str) -> None:
        self.post_fifo(event(name))

    def _read_again(self) -> int:
        self.post_fifo(event("look_again"))
        return self.trans(self.read_or_discover_network_details)

    def _is_mine(self, e: Event) -> bool:
        return getattr(e.payload, "file_path", None) == self.cache_file_chart.file_path

    def _young(self, e: Event) -> list[str] | None:
        return lan_document.young_addresses_in(e.payload)

    def _end_if_younger(self, e: Event) -> int:
        """Somebody else's discovery came first: its result will do."""
        if not self._is_mine(e) or (addresses := self._young(e)) is None:
            return HANDLED
        if e.payload.last_modified <= self._known_since_s:
            return HANDLED  # the one that is to be refreshed
        self._connections.tell(addresses, self.publish)
        self._plan_refresh(e.payload)
        return self.trans(self.read_or_discover_network_details)

    def _is_known_younger(self) -> bool:
        with suppress(CacheNetError):
            document = self.cache_file_chart.document()
            discovered_s = document.floor.discovered_at_ms / 1000
            return discovered_s > self._known_since_s and not document.expired(self.clock.wall_ms())
        return False

    def _stamp_now(self) -> Stamp | None:
        with suppress(CacheNetError):
            return self.cache_file_chart.store.stamp_now()
        return None

    def _serve_stale(self, cache: Any) -> None:
        addresses = lan_document.addresses_in(cache.dict)
        if cache.stale and addresses:
            self._connections.tell(addresses, self.publish)

    def _plan_refresh(self, cache: Any) -> None:
        minutes = cache.dict.get(TIME_OUT_KEY)
        if isinstance(minutes, (int, float)) and minutes > 0:
            self.cancel_events("refresh_due")
            at_s = minutes * 60 * self._rng.uniform(*REFRESH_AT)
            due = event("refresh_due", cache.last_modified)
            self.post_later(due, min(max(0.0, at_s - cache.age_s), LONGEST_TIMER_S))

    def _keep(self, result: RecceCompletePayload) -> None:
        self._discovered, self._discovered_at_s = result.other_addresses, self.clock.monotonic_s()
        checks = {check.ip_address: check for check in result.checks}
        document = lan_document.render(
            (checks[address] for address in result.other_addresses),
            self.settings,
            seen_at=self.clock.wall_ms() / 1000,
            time_out_in_minutes=self.time_out_in_minutes,
        )
        write = AddressedChange(write_of(document, self._began), self.cache_file_chart.file_path)
        self.cache_file_chart.post_fifo(event(CACHE_FILE_WRITE, write))
        self._connections.tell(result.other_addresses, self.publish)
