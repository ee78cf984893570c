"""`ProducerScoutChart`: checks one address for a compatible consumer.  It decides when; `probe` does the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miros.event import Event

from miros_cache_net.discovery.challenge import Challenger
from miros_cache_net.discovery.probe.prober import ProbeHandle, Prober, ProbeResult, Verdict, shared_prober
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.errors import PayloadError
from miros_cache_net.events import AMQP_CONSUMER_CHECK, event
from miros_cache_net.payloads import AMQPConsumerCheckPayload
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State


class ProducerScoutChart(Chart):
    """Searches one address for a RabbitMQ with the exchange; starts itself.

    Publishes ``AMQP_CONSUMER_CHECK`` with `AMQPConsumerCheckPayload`, once for each search.  A posted
    ``REFACTOR_SEARCH`` makes it search again; the payload (None, a mapping or a named tuple) may change
    `ip_address`, `routing_key`, `exchange_name` or `port`.  A search that is superseded this way, or stopped,
    publishes nothing.  A search takes at most the settings' `scout_timeout_s`, plus the wait for its turn among the
    process's scouts.

    ip_address    ``host`` or ``host:port``
    routing_key   copied to the payload; nothing is ever published at the peer
    settings      None: `Settings()` from the environment.  `peers.peer_broker` takes login, TLS and vhost from it
    prober        None: the one that the process shares
    port          None: the port in `ip_address`, else the settings'

    Raises `SettingsError` if a setting is malformed.
    """

    STATES = (
        State("search", INIT="producer_thread_engaged", REFACTOR_SEARCH="search"),
        State(
            "producer_thread_engaged",
            "search",
            ENTRY=STAYS,
            INIT="producer_post_and_wait",
            EXIT=STAYS,
            consumer_test_complete=("amqp_consumer_server_found", "no_amqp_consumer_server_found"),
        ),
        State("producer_post_and_wait", "producer_thread_engaged", ENTRY=STAYS),
        State("amqp_consumer_server_found", "search", ENTRY=STAYS),
        State("no_amqp_consumer_server_found", "search", ENTRY=STAYS),
    )

    def __init__(
        self,
        ip_address: str,
        routing_key: str,
        exchange_name: str,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        *,
        settings: Settings | None = None,
        prober: Prober | None = None,
        port: int | None = None,
    ) -> None:
        self.settings = settings or Settings()
        super().__init__(ip_address, live_trace=live_trace, live_spy=live_spy)
        self.ip_address, self.routing_key, self.exchange_name, self.port = ip_address, routing_key, exchange_name, port
        self._prober = prober or shared_prober()
        self._probe: ProbeHandle | None = None
        self._searches = 0
        self._result: AMQPConsumerCheckPayload | None = None
        self.start_at()

    def stop(self) -> None:
        """Stop the thread and any search under way, which then publishes nothing."""
        super().stop()
        self._cancel_probe()

    # --- states ---------------------------------------------------------------------------------------

    def _search_INIT(self, e: Event) -> int:
        return self.trans("producer_thread_engaged")

    def _search_REFACTOR_SEARCH(self, e: Event) -> int:
        try:
            self._take_parameters(e.payload)
        except PayloadError as error:
            self.report(error.reason, str(error))
            return HANDLED
        return self.trans("search")

    def _producer_thread_engaged_ENTRY(self, e: Event) -> int:
        self._searches += 1
        return HANDLED

    def _producer_thread_engaged_INIT(self, e: Event) -> int:
        return self.trans("producer_post_and_wait")

    def _producer_thread_engaged_EXIT(self, e: Event) -> int:
        self._cancel_probe()
        return HANDLED

    def _producer_thread_engaged_consumer_test_complete(self, e: Event) -> int:
        search, result = e.payload
        if search != self._searches:
            return HANDLED  # From a superseded search.
        self._result = result
        return self.trans("amqp_consumer_server_found" if result.result else "no_amqp_consumer_server_found")

    def _producer_post_and_wait_ENTRY(self, e: Event) -> int:
        search, asked = self._searches, (self.ip_address, self.routing_key, self.exchange_name)

        def done(result: ProbeResult) -> None:
            # LIFO, because a LIFO post is never refused.
            self.post_lifo(event("consumer_test_complete", (search, check_of(result, *asked))))

        try:
            question = Challenger(self.settings, self.exchange_name).question(self.ip_address)
            target = target_for(self.settings, self.ip_address, self.exchange_name, self.port, question)
        except ValueError as error:
            done(ProbeResult(self.ip_address, self.port or 0, Verdict.UNRESOLVABLE, str(error)))
        else:
            self._probe = self._prober.probe(target, done)
        return HANDLED

    def _amqp_consumer_server_found_ENTRY(self, e: Event) -> int:
        self.publish(event(AMQP_CONSUMER_CHECK, self._result))
        return HANDLED

    def _no_amqp_consumer_server_found_ENTRY(self, e: Event) -> int:
        self.publish(event(AMQP_CONSUMER_CHECK, self._result))
        return HANDLED

    # --- what the handlers share ------------------------------------------------------------------------

    def _cancel_probe(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.cancel()

    def _take_parameters(self, payload: Any) -> None:
        fields = payload._asdict() if hasattr(payload, "_asdict") else payload
        if fields is None:
            return
        if not isinstance(fields, Mapping):
            raise PayloadError(f"REFACTOR_SEARCH wants a mapping or a named tuple, not {type(payload).__name__}")
        for name in ("ip_address", "routing_key", "exchange_name"):
            if not isinstance(fields.get(name, ""), str):
                raise PayloadError(f"REFACTOR_SEARCH: {name} must be text")
        if not isinstance(fields.get("port"), int | None):
            raise PayloadError("REFACTOR_SEARCH: port must be a number")
        self.ip_address = fields.get("ip_address", self.ip_address)
        self.routing_key = fields.get("routing_key", self.routing_key)
        self.exchange_name = fields.get("exchange_name", self.exchange_name)
        self.port = fields.get("port", self.port)


def check_of(result: ProbeResult, ip_address: str, routing_key: str, exchange_name: str) -> AMQPConsumerCheckPayload:
    """A probe's result as the payload of `AMQP_CONSUMER_CHECK`; the other arguments are copied to it."""
    return AMQPConsumerCheckPayload(
        ip_address=ip_address,
        result=result.ok,
        routing_key=routing_key,
        exchange_name=exchange_name,
        reason=result.verdict.value,
        detail=result.detail,
        round_trip_s=result.round_trip_s,
        port=result.port,
    )


#: The chart's names in existing programs.
ProduceScoutChart = ProducerScoutChart
RabbitConsumerScoutChart = ProducerScoutChart
