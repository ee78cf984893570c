"""`LanChart`: the LAN's brokers, from the cache while it is young, else by a recce whose result is cached."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from miros.event import Event, return_status

from miros_cache_net.amqp.probe import Prober
from miros_cache_net.charts.cache_file import CacheFileChart
from miros_cache_net.charts.chart import Chart
from miros_cache_net.charts.lan_recce import LanRecceChart
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.events import (
    CACHE_FILE_READ,
    CACHE_FILE_WRITE,
    CONNECTION_DISCOVERY,
    LAN_RECCE_COMPLETE,
    RECCE_LAN,
    event,
)
from miros_cache_net.lan import lan_document
from miros_cache_net.limits import DISCOVERED_JUST_NOW_S
from miros_cache_net.payloads import CacheWritePayload, ConnectionDiscoveryPayload, RecceCompletePayload
from miros_cache_net.peers import connection_url
from miros_cache_net.settings import Settings

HANDLED: Final = int(return_status.HANDLED)

DEFAULT_FILE: Final = ".miros_rabbitmq_lan_cache.json"
DEFAULT_TIME_OUT_IN_MINUTES: Final = 30


class LanChart(Chart):
    """Finds the LAN's brokers; starts itself.

    Reads the cache.  Young: publishes ``CONNECTION_DISCOVERY`` with `ConnectionDiscoveryPayload` at once, and again
    whenever its cache chart publishes a young document.  Expired, or no LAN document (`lan.lan_document`): has its
    `LanRecceChart` scout the candidates, writes the cache, then publishes it.  A recce that fails leaves the cache
    as it is; ``CACHE_ERROR`` says why, and the next read of the expired document tries again.

    time_out_in_minutes  written with a discovery; None: 30
    cache_file_path      None: ``.miros_rabbitmq_lan_cache.json`` here
    candidates, prober   as for `LanRecceChart`
    cache_file_chart     an existing chart to use in place of one of its own; it is not stopped with this one
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
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.settings = settings or Settings()
        super().__init__("lan_chart", live_trace=live_trace, live_spy=live_spy, clock=clock)
        self.routing_key, self.exchange_name = routing_key, exchange_name
        self.time_out_in_minutes = DEFAULT_TIME_OUT_IN_MINUTES if time_out_in_minutes is None else time_out_in_minutes
        self._fleet_wait_s = fleet_wait_s
        self._request = ""
        self._discovered: list[str] = []
        self._discovered_at_s = float("-inf")
        self._own_cache = cache_file_chart is None
        self.cache_file_chart = cache_file_chart or CacheFileChart(
            cache_file_path or DEFAULT_FILE,
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
        self._build_states()
        self.start_at("read_or_discover_network_details")

    def _build_states(self) -> None:
        cache = self.cache_file_chart.system_read_signal_name
        self.read_or_discover_network_details = self.state(
            "read_or_discover_network_details",
            ENTRY_SIGNAL=self.read_or_discover_network_details_ENTRY,
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
        self.discover_network = self.state(
            "discover_network",
            parent="read_or_discover_network_details",
            ENTRY_SIGNAL=self.discover_network_ENTRY,
            LAN_RECCE_COMPLETE=self.discover_network_LAN_RECCE_COMPLETE,
            **{cache: self.discover_network_CACHE},
        )
        self.subscribe(cache)
        self.subscribe(LAN_RECCE_COMPLETE)

    def stop(self) -> None:
        """End this chart, its recce and its own cache chart; the file stays."""
        super().stop()
        self.lan_recce_chart.stop()
        if self._own_cache:
            self.cache_file_chart.stop()

    # --- states ---------------------------------------------------------------------------------------

    def read_or_discover_network_details_ENTRY(self, e: Event) -> int:
        self.cache_file_chart.post_fifo(event(CACHE_FILE_READ))
        return HANDLED

    def read_or_discover_network_details_CACHE(self, e: Event) -> int:
        if not self._is_mine(e):
            return HANDLED
        if (addresses := self._young(e)) is not None:
            self._publish_connections(addresses)
            return HANDLED
        if self.clock.monotonic_s() - self._discovered_at_s < DISCOVERED_JUST_NOW_S:
            self._publish_connections(self._discovered)
            return HANDLED
        return self.trans(self.ask_fleet if self._fleet_wait_s and not e.payload.connected else self.discover_network)

    def ask_fleet_ENTRY(self, e: Event) -> int:
        self.post_later(event("fleet_is_silent"), self._fleet_wait_s)
        return HANDLED

    def ask_fleet_EXIT(self, e: Event) -> int:
        self.cancel_events("fleet_is_silent")
        return HANDLED

    def ask_fleet_CACHE(self, e: Event) -> int:
        if self._is_mine(e) and self._young(e) is None and e.payload.connected:
            return self.trans(self.discover_network)
        return self._end_if_young(e)

    def ask_fleet_fleet_is_silent(self, e: Event) -> int:
        return self.trans(self.discover_network)

    def discover_network_ENTRY(self, e: Event) -> int:
        self._request = uuid.uuid4().hex
        self.lan_recce_chart.post_fifo(event(RECCE_LAN, self._request))
        return HANDLED

    def discover_network_CACHE(self, e: Event) -> int:
        return self._end_if_young(e)

    def discover_network_LAN_RECCE_COMPLETE(self, e: Event) -> int:
        result = e.payload
        if not isinstance(result, RecceCompletePayload) or result.request != self._request:
            return HANDLED  # somebody else's, or of a discovery that was overtaken
        if not result.failed:
            self._keep(result)
        return self.trans(self.read_or_discover_network_details)

    # --- what the handlers share ------------------------------------------------------------------------

    def _is_mine(self, e: Event) -> bool:
        return getattr(e.payload, "file_path", None) == self.cache_file_chart.file_path

    def _young(self, e: Event) -> list[str] | None:
        document: Mapping[str, Any] = e.payload.dict
        return None if e.payload.expired else lan_document.addresses_in(document)

    def _end_if_young(self, e: Event) -> int:
        """Somebody else's discovery came first: its result will do."""
        if not self._is_mine(e) or (addresses := self._young(e)) is None:
            return HANDLED
        self._publish_connections(addresses)
        return self.trans(self.read_or_discover_network_details)

    def _keep(self, result: RecceCompletePayload) -> None:
        self._discovered, self._discovered_at_s = result.other_addresses, self.clock.monotonic_s()
        checks = {check.ip_address: check for check in result.checks}
        document = lan_document.render(
            (checks[address] for address in result.other_addresses),
            self.settings,
            seen_at=self.clock.wall_ms() / 1000,
            time_out_in_minutes=self.time_out_in_minutes,
        )
        write = CacheWritePayload(json=document, file_name=self.cache_file_chart.file_path)
        self.cache_file_chart.post_fifo(event(CACHE_FILE_WRITE, write))
        self._publish_connections(result.other_addresses)

    def _publish_connections(self, addresses: list[str]) -> None:
        payload = ConnectionDiscoveryPayload(
            hosts=list(addresses),
            amqp_urls=[connection_url(self.settings, address) for address in addresses],
            dispatcher=str(self.name),
        )
        self.publish(event(CONNECTION_DISCOVERY, payload))
