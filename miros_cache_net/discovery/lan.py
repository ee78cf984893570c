"""`LanChart`: the LAN's brokers, from the cache while it is young, else by a recce whose result is cached.

The chart decides when to act; `LanFile`, `SingleFlight`, `PeerChecks`, `Connections` and `LanRecceChart` do the work.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, overload

from miros.event import Event

from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.connections import Connections, read_once
from miros_cache_net.discovery.lan_file import NOTHING, LanFile, discovered
from miros_cache_net.discovery.lan_recce import LanRecceChart, own_first
from miros_cache_net.discovery.member import FLEET_WAIT_S, ROUTING_KEY, Member
from miros_cache_net.discovery.peer_check import PeerChecks
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, shared_prober
from miros_cache_net.discovery.retry import retry_after_s
from miros_cache_net.discovery.wanted import is_configured, named_by
from miros_cache_net.errors import CacheNetError, Reason
from miros_cache_net.events import (
    CACHE,
    CONNECTION_READ,
    EVALUATE_HOSTS_FILE,
    LAN_RECCE_COMPLETE,
    RECCE_LAN,
    event,
)
from miros_cache_net.payloads import CacheReadPayload, ConnectionDiscoveryPayload, RecceCompletePayload
from miros_cache_net.settings import Settings
from miros_cache_net.settings.which_file import cache_file
from miros_cache_net.single_flight import SingleFlight, Step
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.statechart.timers import Timer
from miros_cache_net.store.changes import Beginning

DEFAULT_FILE: Final = lan_document.OLD_FILE
#: How long to wait for the fleet's answer, and when to ask again in case the bridge was too busy to answer.
TURN_PATIENCE_S: Final = 10.0
TURN_ONCE_MORE_S: Final = 1.5
#: The longest random delay before a reported peer is scouted again.
SUSPECTED_FOR_S: Final = 1.0
#: How long an unavailable file delays a recce; longer than the chart respects another program's lock on it.
BEGIN_PATIENCE_S: Final = 20.0


class LanChart(Chart):
    """Finds the LAN's brokers; starts itself.

    `LanChart(node)` is all that a program of a fleet needs: the `CacheNode` and its settings supply the rest, one
    host of the fleet discovers, and the others get its result.  Without a node, pass `routing_key` in its place.

    The chart reads the cache.  If it is young, the chart publishes ``CONNECTION_DISCOVERY`` with
    `ConnectionDiscoveryPayload` at once, before it builds anything else, and again whenever its cache chart publishes
    a young document.  Late subscribers ask with ``CONNECTION_READ``; programs without a chart call `peers`.
    ``EVALUATE_HOSTS_FILE`` makes it scout new hosts of the settings' hosts file.  If the cache is expired or contains
    no LAN document (`lan_document`), its `LanRecceChart` scouts the candidates; the chart writes the cache, then
    publishes the result.  A failed recce does not change the cache; ``CACHE_ERROR`` gives the reason, and the next
    read of the expired document tries again.  A recce that finds no broker counts for a minute at most.

    exchange_name        "": from the settings
    time_out_in_minutes  written with a discovery; None: from the settings, whose default is 30
    cache_file_path      None: the node's, or without a node ``.miros_rabbitmq_lan_cache.json`` in the working directory
    settings             None: the node's, or without a node `Settings()` from the environment
    candidates, prober   as for `LanRecceChart`
    cache_file_chart     an existing chart to use instead of one of its own; `stop` does not stop it
    ask_turn             `CacheNode.ask_turn`, so that one host of the fleet discovers and the others get its result
    fleet_wait_s         if that chart's document comes from a fleet: how long an expired one waits for the fleet,
                         until ``CACHE`` says `connected`, before a recce starts

    URLs are built when published; they include the password only if `peers.connection_url` allows it.
    Raises `SettingsError` if a setting is malformed.
    """

    STATES = (
        State(
            "read_or_discover_network_details",
            ENTRY=STAYS,
            look_again=STAYS,
            peer_failed=STAYS,
            peer_suspected=STAYS,
            peer_answered=STAYS,
            CONNECTION_READ=STAYS,
            EVALUATE_HOSTS_FILE=STAYS,
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
        routing_key: str | Member = ROUTING_KEY,
        exchange_name: str = "",
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
        if not isinstance(routing_key, str):
            node, routing_key = routing_key, ROUTING_KEY
            settings, cache_file_chart = settings or node.settings, cache_file_chart or node.file_chart
            ask_turn, fleet_wait_s = ask_turn or node.ask_turn, fleet_wait_s or FLEET_WAIT_S
        self.settings = settings or Settings()
        exchange_name = exchange_name or self.settings.exchange
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
        given = time_out_in_minutes
        self.time_out_in_minutes = self.settings.time_out_in_minutes if given is None else given
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
        # The challenge to a peer names the document that the fleet shares through this chart.
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
            asks_own=self._file.old,
        )
        self._checks = PeerChecks(
            exchange_name, asked, prober or shared_prober(), self._peer_answered, self._rng, old=self._file.old
        )
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
        self._suspects: set[str] = set()
        self._looks: dict[str, Timer] = {}
        self._known = NOTHING
        self.subscribe(cache)
        self.subscribe(LAN_RECCE_COMPLETE)
        self.subscribe(CONNECTION_READ)
        self.subscribe(EVALUATE_HOSTS_FILE)
        self.start_at()

    @overload
    def peers(self) -> ConnectionDiscoveryPayload: ...
    @overload
    def peers(self, timeout_s: float | None) -> ConnectionDiscoveryPayload | None: ...
    def peers(self, timeout_s: float | None = None) -> ConnectionDiscoveryPayload | None:
        """The last ``CONNECTION_DISCOVERY`` payload; waits for the first one, and returns None after `timeout_s`.

        Callable from any thread except a chart's own.
        """
        return self._connections.wait(timeout_s)

    def report_failure(self, address: str) -> None:
        """A program could not reach the cached peer `address` (``host`` or ``host:port``, as in the document).

        The chart scouts the peer again, and removes it from every host's document if it is gone.  From then on it
        scouts the peer with increasing back-off, and adds it again when it answers.  Callable from any thread; an
        address that is not a peer in the document is ignored.  A program without this chart writes
        ``suspect:<address>`` into the document.
        """
        self.post_fifo(event("peer_failed", address))

    def stop(self) -> None:
        """Stop this chart, its recce and its own cache chart; the file stays."""
        super().stop()
        self._flight.end()
        self.lan_recce_chart.stop()
        if self._own_cache:
            self.cache_file_chart.stop()

    # --- states ---------------------------------------------------------------------------------------

    def _read_or_discover_network_details_ENTRY(self, e: Event) -> int:
        self._file.read()
        return HANDLED

    def _read_or_discover_network_details_look_again(self, e: Event) -> int:
        self._file.read()
        return HANDLED

    def _read_or_discover_network_details_CACHE(self, e: Event) -> int:
        if not self._file.is_answered_by(e):
            return HANDLED
        self._look_at_suspects(e.payload)
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

    def _read_or_discover_network_details_CONNECTION_READ(self, e: Event) -> int:
        self._connections.tell_again(self.publish)
        return HANDLED

    def _read_or_discover_network_details_EVALUATE_HOSTS_FILE(self, e: Event) -> int:
        """Scout the hosts that the settings name and the document lacks; those that answer join the document."""
        try:
            contents = self._file.contents()
            known = lan_document.addresses_in(contents)
            for host in named_by(self.settings):
                if known is not None and host not in known:
                    self._checks.look_at(host, contents, wanted=True)
        except (CacheNetError, OSError, ValueError) as error:
            reason = error.reason if isinstance(error, CacheNetError) else Reason.IO
            self.report(reason, str(error), self.cache_file_chart.file_name)
        return HANDLED

    def _read_or_discover_network_details_refresh_due(self, e: Event) -> int:
        """Refresh before expiry, so that no program has to wait; random timing lets the first one do it for all."""
        self._known = e.payload
        return self.trans("await_turn")

    def _read_or_discover_network_details_peer_failed(self, e: Event) -> int:
        with suppress(CacheNetError, ValueError):
            self._checks.look_at(str(e.payload), self._file.contents())
        return HANDLED

    def _read_or_discover_network_details_peer_suspected(self, e: Event) -> int:
        """Scout the peer, unless another host has cleared the suspicion meanwhile."""
        self._suspects.discard(e.payload)
        with suppress(CacheNetError):
            contents = self._file.contents()
            if e.payload in lan_document.suspects_in(contents) and is_configured(self.settings, e.payload):
                self._checks.look_at(e.payload, contents)
        return HANDLED

    def _read_or_discover_network_details_peer_answered(self, e: Event) -> int:
        address, result = e.payload
        try:
            contents = self._file.contents()
        except CacheNetError:
            # the file chart reports it; the verdict waits, since without it the address would never be scouted again
            self.post_later(e, retry_after_s(0, self._rng))
            return HANDLED
        change, again_s = self._checks.verdict(address, result, contents, self.clock.wall_ms() / 1000)
        if change is not None:
            self._file.change(change)
            self._file.read()
        # Several reports may have led to this check; one timer per address is enough.
        self.cancel_event(self._looks.pop(address, None))
        if again_s is not None:
            self._looks[address] = self.post_later(event("peer_failed", address), again_s)
        return HANDLED

    def _ask_fleet_ENTRY(self, e: Event) -> int:
        self.post_later(event("fleet_is_silent"), self._fleet_wait_s)
        return HANDLED

    def _ask_fleet_EXIT(self, e: Event) -> int:
        self.cancel_events("fleet_is_silent")
        return HANDLED

    def _ask_fleet_CACHE(self, e: Event) -> int:
        if self._file.is_answered_by(e) and lan_document.young_addresses_in(e.payload) is None and e.payload.connected:
            return self.trans("await_turn")
        return self._end_if_younger(e)

    def _ask_fleet_fleet_is_silent(self, e: Event) -> int:
        return self.trans("await_turn")

    def _refresh_CACHE(self, e: Event) -> int:
        return self._end_if_younger(e)

    def _refresh_refresh_due(self, e: Event) -> int:
        return HANDLED  # A refresh is already under way.

    def _refresh_EXIT(self, e: Event) -> int:
        self._flight.end()
        self.cancel_events("begun")
        return HANDLED

    def _await_turn_ENTRY(self, e: Event) -> int:
        self._await_lock()
        return HANDLED

    def _await_turn_EXIT(self, e: Event) -> int:
        for waiting in ("turn", "no_answer", "ask_again"):
            self.cancel_events(waiting)
        return HANDLED

    def _await_turn_ask_again(self, e: Event) -> int:
        self._await_lock()
        return HANDLED

    def _await_turn_host_turn(self, e: Event) -> int:
        """No other process on this host is discovering; one may have just finished."""
        return self._take(self._flight.has_lock())

    def _await_turn_no_answer(self, e: Event) -> int:
        self._ask_fleet()
        return HANDLED

    def _await_turn_turn(self, e: Event) -> int:
        return self._take(self._flight.lease_is(True))

    def _await_turn_no_turn(self, e: Event) -> int:
        """Another host is discovering: its result arrives as ``CACHE``; if it dies, another host begins."""
        self.cancel_events("turn")
        self.cancel_events("no_answer")
        return self._take(self._flight.lease_is(False))

    def _discover_network_ENTRY(self, e: Event) -> int:
        request = self._request = self._to_begin = uuid.uuid4().hex
        self._file.begin(lambda began: self.post_fifo(event("begun", (request, began))))
        self.post_later(event("begun", (request, None)), BEGIN_PATIENCE_S)
        return HANDLED

    def _discover_network_begun(self, e: Event) -> int:
        request, began = e.payload
        if request == self._to_begin:
            self._to_begin, self._began = "", began
            self.cancel_events("begun")
            self.lan_recce_chart.post_fifo(event(RECCE_LAN, self._request))
        return HANDLED

    def _discover_network_LAN_RECCE_COMPLETE(self, e: Event) -> int:
        result = e.payload
        if not isinstance(result, RecceCompletePayload) or result.request != self._request:
            return HANDLED  # The result of another chart's recce, or of a superseded discovery.
        if result.failed:
            self._look_again_later()
            return self.trans("read_or_discover_network_details")
        # Without a beginning, the file was unavailable: it may contain newer writes that this result would undo.
        if self._began is not None:
            self._file.keep(result, self._began, self.time_out_in_minutes)
        self._connections.tell(own_first(result), self.publish)
        return self.trans("store_result")

    def _store_result_ENTRY(self, e: Event) -> int:
        """Keep the turn until the result is in the file: this read is answered after that write."""
        self._file.read()
        return HANDLED

    def _store_result_CACHE(self, e: Event) -> int:
        if not self._file.is_answered_by(e):
            return HANDLED
        if discovered(e.payload) == self._known:
            self._look_again_later()  # The result could not be written.
        else:
            self._failures = 0
            self._plan_refresh(e.payload)
        return self.trans("read_or_discover_network_details")

    # --- what the handlers share ------------------------------------------------------------------------

    def _take(self, step: Step) -> int:
        """Take `step`, the next one towards a young document."""
        if step is Step.AWAIT_LOCK:
            self._await_lock()
        elif step is Step.ASK_LEASE:
            # A hung bridge that never answers must not keep every program from discovering.
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

    def _await_lock(self) -> None:
        if not self._flight.await_lock(self._lock_is_free):
            self.post_later(event("ask_again"), self._flight.pause_s)

    def _ask_fleet(self) -> None:
        if self._ask_lease is None:
            self._lease_is(True)
        else:
            self.post_later(event("no_answer"), TURN_ONCE_MORE_S)
            self._ask_lease(self._lease_is)

    def _end_if_younger(self, e: Event) -> int:
        """Stop refreshing if this ``CACHE`` has the result of another program's discovery."""
        if not self._file.is_answered_by(e) or (addresses := lan_document.young_addresses_in(e.payload)) is None:
            return HANDLED
        if discovered(e.payload) == self._known:
            return HANDLED  # Still the document that is to be refreshed.
        self._connections.tell(addresses, self.publish)
        self._plan_refresh(e.payload)
        return self.trans("read_or_discover_network_details")

    def _look_again_later(self) -> None:
        self._failures += 1
        self.post_later(event("look_again"), retry_after_s(self._failures, self._rng))

    def _look_at_suspects(self, cache: CacheReadPayload) -> None:
        """Scout suspects after a random delay, so that usually one host does it for all."""
        for address in set(lan_document.suspects_in(cache.dict)) - self._suspects:
            self._suspects.add(address)
            self.post_later(event("peer_suspected", address), self._rng.uniform(0.0, SUSPECTED_FOR_S))

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
