"""`LanRecceChart`: which of many addresses have a compatible consumer?  It decides when; `ScoutParty` does what."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, shared_prober
from miros_cache_net.discovery.scout_party import ScoutParty
from miros_cache_net.discovery.sweep.survey import Survey, Surveyed, peer_text
from miros_cache_net.errors import Reason
from miros_cache_net.events import AMQP_CONSUMER_CHECK, LAN_RECCE_COMPLETE, LAN_RECCE_PROGRESS, RECCE_LAN, event
from miros_cache_net.payloads import RecceCompletePayload, RecceProgressPayload
from miros_cache_net.settings import Settings
from miros_cache_net.settings.networks import working_address
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State

_BACKOFF_BASE_S: Final = 2.0
_BACKOFF_TOP_S: Final = 300.0


class LanRecceChart(Chart):
    """Finds the brokers of this machine's networks, or among given candidates; starts itself, and waits to be asked.

    Subscribes to ``RECCE_LAN``; posted to it directly, it works the same.  Publishes ``AMQP_CONSUMER_CHECK`` for
    each candidate as soon as its verdict is known, then ``LAN_RECCE_COMPLETE`` with `RecceCompletePayload`, once
    for each ``RECCE_LAN``; on the way there ``LAN_RECCE_PROGRESS`` with `RecceProgressPayload`, as often as a
    progress bar can show it.  A ``RECCE_LAN`` that comes while another runs is deferred.  Stopped in mid-flight it
    publishes nothing more.

    Without `candidates` those are found by a sweep: the neighbour table and every address of the IPv4 networks of
    this machine are asked for the port of the settings' brokers, and what takes a connection is scouted.  Networks
    larger than the settings' `sweep_prefix` are not swept, only their known neighbours are asked; the payload's
    `declined` says so.  A recce that can look at nothing at all completes as `failed`.

    candidates   called at each recce, in the chart's thread; gives ``host`` or ``host:port``.  If it raises, the recce
                 completes as `failed` and ``CACHE_ERROR`` says why
    settings     None: `Settings()` from the environment
    prober       None: the process's own

    Raises `SettingsError` where a setting is malformed.
    """

    STATES = (
        State("private_search", RECCE_LAN="lan_recce"),
        State(
            "lan_recce",
            "private_search",
            INIT="identify_all_ip_addresses",
            EXIT=STAYS,
            RECCE_LAN=STAYS,
            ip_addresses_found="recce_rabbit_consumers",
            no_ip_addresses="private_search",
        ),
        State(
            "identify_all_ip_addresses",
            "lan_recce",
            ENTRY=STAYS,
            EXIT=STAYS,
            sweep_progress=STAYS,
            sweep_complete=STAYS,
        ),
        State(
            "recce_rabbit_consumers",
            "lan_recce",
            ENTRY=STAYS,
            address_scouted=STAYS,
            lan_recce_complete="private_search",
        ),
    )

    def __init__(
        self,
        routing_key: str,
        exchange_name: str,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        *,
        candidates: Callable[[], Iterable[str]] | None = None,
        settings: Settings | None = None,
        prober: Prober | None = None,
    ) -> None:
        self.settings = settings or Settings()
        super().__init__("lan_recce_chart", live_trace=live_trace, live_spy=live_spy)
        self.routing_key, self.exchange_name = routing_key, exchange_name
        self._candidates = candidates
        self._prober = prober or shared_prober()
        self._party: ScoutParty | None = None
        self._survey: Survey | None = None
        self._surveyed = Surveyed()
        self._told_at_s = float("-inf")
        self._request: Any = None
        self._rounds = 0
        self.subscribe(RECCE_LAN)
        self.start_at()

    def stop(self) -> None:
        """End the thread and the sweep, and call back the scouts."""
        super().stop()
        self._cancel_survey()
        self._cancel_party()

    # --- states ---------------------------------------------------------------------------------------

    def private_search_RECCE_LAN(self, e: Event) -> int:
        self._request = e.payload
        return self.trans("lan_recce")

    def lan_recce_INIT(self, e: Event) -> int:
        return self.trans("identify_all_ip_addresses")

    def lan_recce_RECCE_LAN(self, e: Event) -> int:
        self.defer(e)
        return HANDLED

    def lan_recce_EXIT(self, e: Event) -> int:
        self._cancel_party()
        self.recall()
        return HANDLED

    def lan_recce_ip_addresses_found(self, e: Event) -> int:
        self._rounds += 1
        answer = partial(self._answer, self._rounds)
        self._party = ScoutParty(e.payload, self.routing_key, self.exchange_name, self.settings, self._prober, answer)
        return self.trans("recce_rabbit_consumers")

    def lan_recce_no_ip_addresses(self, e: Event) -> int:
        self._complete(failed=e.payload)
        return self.trans("private_search")

    def identify_all_ip_addresses_ENTRY(self, e: Event) -> int:
        if self._candidates is None:
            self._rounds += 1
            self._survey = self._begin_survey(self._rounds)
            return HANDLED
        try:
            found = [str(candidate) for candidate in self._candidates()]
        except Exception as error:
            message = f"the candidates for a recce could not be had: {type(error).__name__}: {error}"
            self.report(Reason.HANDLER, message, exc=error)
            self.post_lifo(event("no_ip_addresses", message))
        else:
            self.post_lifo(event("ip_addresses_found", found))
        return HANDLED

    def identify_all_ip_addresses_EXIT(self, e: Event) -> int:
        self._cancel_survey()
        return HANDLED

    def identify_all_ip_addresses_sweep_progress(self, e: Event) -> int:
        recce_round, *counts = e.payload
        if recce_round == self._rounds:
            self._tell("sweep", *counts)
        return HANDLED

    def identify_all_ip_addresses_sweep_complete(self, e: Event) -> int:
        recce_round, surveyed = e.payload
        if recce_round != self._rounds:
            return HANDLED  # of an earlier life
        self._surveyed = surveyed
        if surveyed.failed:
            self.report(Reason.SETTINGS, surveyed.failed)
            self.post_lifo(event("no_ip_addresses", surveyed.failed))
        else:
            self._tell("sweep", surveyed.swept, surveyed.swept, len(surveyed.open))
            usual = self.settings.amqp_urls[0].port
            peers = [peer_text(each.address, each.port, usual) for each in surveyed.open]
            self.post_lifo(event("ip_addresses_found", peers))
        return HANDLED

    def recce_rabbit_consumers_ENTRY(self, e: Event) -> int:
        self._go_on()
        return HANDLED

    def recce_rabbit_consumers_address_scouted(self, e: Event) -> int:
        recce_round, peer, result = e.payload
        if recce_round == self._rounds and self._party is not None:
            self.publish(event(AMQP_CONSUMER_CHECK, self._party.answered(peer, result)))
            self._tell_progress(self._party)
            self._go_on()
        return HANDLED

    def recce_rabbit_consumers_lan_recce_complete(self, e: Event) -> int:
        self._complete()
        return self.trans("private_search")

    # --- what the handlers share ------------------------------------------------------------------------

    def _begin_survey(self, recce_round: int) -> Survey:
        # in front, since what is posted so is never refused; progress may be
        survey = Survey(
            ports=swept_ports(self.settings),
            largest_prefix=self.settings.sweep_prefix,
            progress=lambda *counts: self.post_fifo(event("sweep_progress", (recce_round, *counts))),
            done=lambda surveyed: self.post_lifo(event("sweep_complete", (recce_round, surveyed))),
        )
        survey.start()
        return survey

    def _tell_progress(self, party: ScoutParty) -> None:
        now_s = self.clock.monotonic_s()
        if party.complete or now_s - self._told_at_s >= limits.SWEEP_PROGRESS_S:
            self._told_at_s = now_s
            self._tell("scout", len(party.checks), len(party.peers), len(party.found))

    def _tell(self, step: str, done: int, total: int, found: int) -> None:
        self.publish(event(LAN_RECCE_PROGRESS, RecceProgressPayload(step, done, total, found, self._request)))

    def _go_on(self) -> None:
        if self._party is not None:
            self._party.go_on()
            if self._party.complete:
                self.post_lifo(event("lan_recce_complete"))

    def _answer(self, recce_round: int, peer: str, result: ProbeResult) -> None:
        # in front, since what is posted so is never refused
        self.post_lifo(event("address_scouted", (recce_round, peer, result)))

    def _complete(self, failed: str = "") -> None:
        party = self._party
        payload = RecceCompletePayload(
            other_addresses=party.found if party else [],
            my_address=working_address(),
            checks=tuple(party.checks.values()) if party else (),
            request=self._request,
            failed=failed,
            declined=self._surveyed.declined,
            swept=self._surveyed.swept,
        )
        self.publish(event(LAN_RECCE_COMPLETE, payload))

    def _cancel_party(self) -> None:
        party, self._party = self._party, None
        if party is not None:
            party.cancel()

    def _cancel_survey(self) -> None:
        survey, self._survey = self._survey, None
        if survey is not None:
            survey.cancel()


def swept_ports(settings: Settings) -> tuple[int, ...]:
    """The ports that a sweep asks: those of the settings' brokers that are spoken to as the first one is."""
    first = settings.amqp_urls[0]
    return tuple(dict.fromkeys(broker.port for broker in settings.amqp_urls if broker.tls == first.tls))


def recce_backoff_s(failures: int, rng: random.Random) -> float:
    """How long to wait after so many recces that failed, one after the other."""
    return rng.uniform(0.5, 1.0) * min(_BACKOFF_TOP_S, _BACKOFF_BASE_S * 2.0 ** min(failures, 20))
