"""`LanRecceChart`: finds the addresses with a compatible consumer.  It decides when; `ScoutParty` does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.discovery.peers import trusted
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, Verdict, shared_prober
from miros_cache_net.discovery.scout_party import ScoutParty
from miros_cache_net.discovery.sweep.survey import Survey, Surveyed, peer_text
from miros_cache_net.discovery.wanted import Wanted, wanted_by
from miros_cache_net.errors import Reason
from miros_cache_net.events import AMQP_CONSUMER_CHECK, LAN_RECCE_COMPLETE, LAN_RECCE_PROGRESS, RECCE_LAN, event
from miros_cache_net.payloads import RecceCompletePayload, RecceProgressPayload
from miros_cache_net.settings import Settings
from miros_cache_net.settings.networks import working_address
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State

#: The verdicts that count as a broker at this host's own address: its own programs have the login.
_BROKER_THERE: Final = (
    Verdict.OK,
    Verdict.NO_EXCHANGE,
    Verdict.NOBODY_ANSWERED,
    Verdict.WRONG_KEY,
    Verdict.NOT_TRUSTED,
)


class LanRecceChart(Chart):
    """Finds the brokers in this machine's networks or among given candidates; starts itself, and waits for a request.

    Subscribes to ``RECCE_LAN``, which may also be posted to it directly.  Publishes ``AMQP_CONSUMER_CHECK`` for each
    candidate as soon as its verdict is known, then ``LAN_RECCE_COMPLETE`` with `RecceCompletePayload`, once for each
    ``RECCE_LAN``; in between, ``LAN_RECCE_PROGRESS`` with `RecceProgressPayload`, at a rate for a progress bar.  A
    ``RECCE_LAN`` that arrives during a recce is deferred.  After `stop` it publishes nothing more.

    Without `candidates` it scouts the hosts that the settings `discover` and `hosts_file` name.  If they name none, or
    include this machine's networks, it sweeps those: it tries to connect to the port of the settings' brokers at every
    address of this machine's IPv4 networks and of the neighbour table, and scouts those that accept.  It does not
    sweep networks larger than the settings' `sweep_prefix`, but asks only their known neighbours; the payload's
    `declined` lists them.  A recce with nothing to look at completes as `failed`.

    candidates   called at each recce, in the chart's thread; yields ``host`` or ``host:port``.  If it raises, the recce
                 completes as `failed` and ``CACHE_ERROR`` gives the reason
    settings     None: `Settings()` from the environment
    prober       None: the one that the process shares
    asks_own     whether to scout this machine's own address too, for the payload's `my_broker`

    Raises `SettingsError` if a setting is malformed.
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
            own_scouted=STAYS,
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
        asks_own: bool = False,
    ) -> None:
        self.settings = settings or Settings()
        super().__init__("lan_recce_chart", live_trace=live_trace, live_spy=live_spy)
        self.routing_key, self.exchange_name = routing_key, exchange_name
        self._wanted = Wanted(candidates, sweeps=False) if candidates else wanted_by(self.settings)
        self._named: list[str] = []
        self._prober = prober or shared_prober()
        self._party: ScoutParty | None = None
        self._own_party: ScoutParty | None = None
        self._asks_own = asks_own
        self._survey: Survey | None = None
        self._surveyed = Surveyed()
        self._told_at_s = float("-inf")
        self._request: Any = None
        self._rounds = 0
        self.subscribe(RECCE_LAN)
        self.start_at()

    def stop(self) -> None:
        """Stop the thread and the sweep, and cancel the scouts."""
        super().stop()
        self._cancel_survey()
        self._cancel_party()

    # --- states ---------------------------------------------------------------------------------------

    def _private_search_RECCE_LAN(self, e: Event) -> int:
        self._request = e.payload
        return self.trans("lan_recce")

    def _lan_recce_INIT(self, e: Event) -> int:
        return self.trans("identify_all_ip_addresses")

    def _lan_recce_RECCE_LAN(self, e: Event) -> int:
        self.defer(e)
        return HANDLED

    def _lan_recce_EXIT(self, e: Event) -> int:
        self._cancel_party()
        self.recall()
        return HANDLED

    def _lan_recce_ip_addresses_found(self, e: Event) -> int:
        self._rounds += 1
        self._party = self._party_to(e.payload, "address_scouted")
        self._own_party = self._party_to(self._own_address(), "own_scouted")
        return self.trans("recce_rabbit_consumers")

    def _lan_recce_no_ip_addresses(self, e: Event) -> int:
        self._complete(failed=e.payload)
        return self.trans("private_search")

    def _identify_all_ip_addresses_ENTRY(self, e: Event) -> int:
        try:
            self._named = [str(candidate) for candidate in self._wanted.named()]
            if self._wanted.sweeps:
                self._rounds += 1
                self._survey = self._begin_survey(self._rounds)
                return HANDLED
        except Exception as error:
            message = f"the candidates for a recce could not be had: {type(error).__name__}: {error}"
            self.report(Reason.HANDLER, message, exc=error)
            self.post_lifo(event("no_ip_addresses", message))
            return HANDLED
        self.post_lifo(event("ip_addresses_found", self._named))
        return HANDLED

    def _identify_all_ip_addresses_EXIT(self, e: Event) -> int:
        self._cancel_survey()
        return HANDLED

    def _identify_all_ip_addresses_sweep_progress(self, e: Event) -> int:
        recce_round, *counts = e.payload
        if recce_round == self._rounds:
            self._tell("sweep", *counts)
        return HANDLED

    def _identify_all_ip_addresses_sweep_complete(self, e: Event) -> int:
        recce_round, surveyed = e.payload
        if recce_round != self._rounds:
            return HANDLED  # From an earlier recce.
        self._surveyed = surveyed
        if surveyed.failed:
            self.report(Reason.SETTINGS, surveyed.failed)
        if surveyed.failed and not self._named:
            self.post_lifo(event("no_ip_addresses", surveyed.failed))
        else:
            self._tell("sweep", surveyed.swept, surveyed.swept, len(surveyed.open))
            usual = self.settings.amqp_urls[0].port
            peers = [peer_text(each.address, each.port, usual) for each in surveyed.open]
            self.post_lifo(event("ip_addresses_found", [*self._named, *peers]))
        return HANDLED

    def _recce_rabbit_consumers_ENTRY(self, e: Event) -> int:
        if self._party is not None:
            self._tell_progress(self._party, always=True)
        if self._own_party is not None:
            self._own_party.go_on()
        self._go_on()
        return HANDLED

    def _recce_rabbit_consumers_address_scouted(self, e: Event) -> int:
        recce_round, peer, result = e.payload
        if recce_round == self._rounds and self._party is not None:
            self.publish(event(AMQP_CONSUMER_CHECK, self._party.answered(peer, result)))
            self._tell_progress(self._party)
            self._go_on()
        return HANDLED

    def _recce_rabbit_consumers_own_scouted(self, e: Event) -> int:
        recce_round, peer, result = e.payload
        if recce_round == self._rounds and self._own_party is not None:
            self._own_party.answered(peer, result)
            self._go_on()
        return HANDLED

    def _recce_rabbit_consumers_lan_recce_complete(self, e: Event) -> int:
        self._complete()
        return self.trans("private_search")

    # --- what the handlers share ------------------------------------------------------------------------

    def _begin_survey(self, recce_round: int) -> Survey:
        # LIFO for the result, because a LIFO post is never refused; progress may be.
        survey = Survey(
            ports=swept_ports(self.settings),
            largest_prefix=self.settings.sweep_prefix,
            progress=lambda *counts: self.post_fifo(event("sweep_progress", (recce_round, *counts))),
            done=lambda surveyed: self.post_lifo(event("sweep_complete", (recce_round, surveyed))),
        )
        survey.start()
        return survey

    def _tell_progress(self, party: ScoutParty, *, always: bool = False) -> None:
        now_s = self.clock.monotonic_s()
        if always or party.complete or now_s - self._told_at_s >= limits.SWEEP_PROGRESS_S:
            self._told_at_s = now_s
            self._tell("scout", len(party.checks), len(party.peers), len(party.found))

    def _tell(self, step: str, done: int, total: int, found: int) -> None:
        self.publish(event(LAN_RECCE_PROGRESS, RecceProgressPayload(step, done, total, found, self._request)))

    def _go_on(self) -> None:
        if self._party is not None:
            self._party.go_on()
            if self._party.complete and (self._own_party is None or self._own_party.complete):
                self.post_lifo(event("lan_recce_complete"))

    def _party_to(self, peers: Iterable[str], answered: str) -> ScoutParty:
        answer = partial(self._answer, answered, self._rounds)
        return ScoutParty(peers, self.routing_key, self.exchange_name, self.settings, self._prober, answer)

    def _own_address(self) -> list[str]:
        own = working_address() if self._asks_own else ""
        return [own] if own and not trusted(own) else []

    def _answer(self, answered: str, recce_round: int, peer: str, result: ProbeResult) -> None:
        # LIFO, because a LIFO post is never refused.
        self.post_lifo(event(answered, (recce_round, peer, result)))

    def _complete(self, failed: str = "") -> None:
        party, own = self._party, self._own_party
        payload = RecceCompletePayload(
            other_addresses=party.found if party else [],
            my_address=working_address(),
            checks=tuple(party.checks.values()) if party else (),
            request=self._request,
            failed=failed,
            declined=self._surveyed.declined,
            swept=self._surveyed.swept,
            my_broker=own is not None and any(check.reason in _BROKER_THERE for check in own.checks.values()),
        )
        self.publish(event(LAN_RECCE_COMPLETE, payload))

    def _cancel_party(self) -> None:
        for party in (self._party, self._own_party):
            if party is not None:
                party.cancel()
        self._party = self._own_party = None

    def _cancel_survey(self) -> None:
        survey, self._survey = self._survey, None
        if survey is not None:
            survey.cancel()


def own_first(result: RecceCompletePayload) -> list[str]:
    """All brokers that a recce found, this machine's own first."""
    return [*([result.my_address] if result.my_broker else []), *result.other_addresses]


def swept_ports(settings: Settings) -> tuple[int, ...]:
    """The ports that a sweep tries: those of the settings' brokers that use TLS, or not, as the first one does."""
    first = settings.amqp_urls[0]
    return tuple(dict.fromkeys(broker.port for broker in settings.amqp_urls if broker.tls == first.tls))
