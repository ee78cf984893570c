"""`ProducerScoutChart`: one verdict for each search, from real sockets and a real RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from miros.event import signals

from miros_cache_net.discovery import scout as scout_module
from miros_cache_net.discovery.probe.prober import Prober
from miros_cache_net.discovery.scout import ProducerScoutChart
from miros_cache_net.errors import Reason
from miros_cache_net.events import AMQP_CONSUMER_CHECK, CACHE_ERROR, REFACTOR_SEARCH, event
from miros_cache_net.payloads import AMQPConsumerCheckPayload
from miros_cache_net.settings import Settings
from miros_cache_net.testing import RabbitServer, free_port, wait_until
from tests.charts.recorder import Recorder
from tests.fake_servers import FakeServer, Visit, generous_rabbit, mute

PASSWORD = "s3cr3t-that-nobody-may-see"
AMPLE_S = 30.0
Build = Callable[..., ProducerScoutChart]


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


@pytest.fixture
def scout(prober: Prober, stopping: Callable[[Any], Any]) -> Build:
    """Builds a scout with the fixture's prober; stopped when the test is over."""

    def build(
        ip_address: str,
        exchange_name: str = "mesh",
        *,
        timeout_s: float = AMPLE_S,
        port: int | None = None,
        **more: Any,
    ) -> ProducerScoutChart:
        settings = Settings(rabbit_user="u", rabbit_password=PASSWORD, scout_timeout_s=timeout_s, **more)
        chart: ProducerScoutChart = stopping(
            ProducerScoutChart(ip_address, "heya.man", exchange_name, settings=settings, prober=prober, port=port)
        )
        return chart

    return build


def test_found_consumer_payload_says_what_was_asked(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(generous_rabbit) as server:
        chart = scout("127.0.0.1", port=server.port)
        checks.wait_for(1)
    check = checks.payloads[0]
    assert isinstance(check, AMQPConsumerCheckPayload)
    assert check[:4] == ("127.0.0.1", True, "heya.man", "mesh")
    assert (check.reason, check.port) == ("ok", server.port)
    assert check.round_trip_s is not None
    wait_until(lambda: chart.state.fun.__name__ == "amqp_consumer_server_found")


def test_refusing_address_is_a_no_with_its_reason(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    port = free_port()
    chart = scout(f"127.0.0.1:{port}")
    checks.wait_for(1)
    assert checks.payloads[0][:5] == (f"127.0.0.1:{port}", False, "heya.man", "mesh", "refused")
    assert checks.payloads[0].port == port
    wait_until(lambda: chart.state.fun.__name__ == "no_amqp_consumer_server_found")


def test_what_is_no_address_is_a_no_too(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    scout("amqp://user:pw@host")
    scout("127.0.0.1", exchange_name="x" * 256)
    checks.wait_for(2)
    assert {check.result for check in checks.payloads} == {False}


def test_a_silent_address_costs_the_settings_time_out(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(mute) as server:
        scout("127.0.0.1", port=server.port, timeout_s=0.2)
        checks.wait_for(1)
    assert checks.payloads[0].reason == "silent"


def test_password_reaches_no_banner_outside_trusted_networks(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(generous_rabbit) as server:
        chart = scout("127.0.0.1", port=server.port, trusted_networks="192.0.2.0/24")
        checks.wait_for(1)
        assert PASSWORD.encode() not in server.heard()
    assert checks.payloads[0].reason == "not_trusted"
    assert PASSWORD not in repr(checks.payloads[0]) + str(chart.spy()) + str(chart.trace())


def test_real_rabbitmq_is_usable_only_with_the_exchange(
    prober: Prober, stopping: Callable[[Any], Any], recorder: Callable[..., Recorder], rabbit_server: RabbitServer
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    settings = Settings(amqp_urls=(rabbit_server.start().url,), scout_timeout_s=AMPLE_S)
    for exchange in ("amq.topic", "missing"):
        stopping(ProducerScoutChart(rabbit_server.address, "#", exchange, settings=settings, prober=prober))
    checks.wait_for(2)
    assert {(check.exchange_name, check.reason) for check in checks.payloads} == {
        ("amq.topic", "ok"),
        ("missing", "no_exchange"),
    }


def test_scout_goes_through_its_documented_states(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(generous_rabbit) as server:
        chart = scout("127.0.0.1", port=server.port)
        checks.wait_for(1)
    step = "e->consumer_test_complete() producer_post_and_wait->amqp_consumer_server_found"
    wait_until(lambda: step in str(chart.trace()))
    spied = [line for line in chart.spy() if line.startswith("ENTRY_SIGNAL")]
    assert spied == [
        "ENTRY_SIGNAL:search",
        "ENTRY_SIGNAL:producer_thread_engaged",
        "ENTRY_SIGNAL:producer_post_and_wait",
        "ENTRY_SIGNAL:amqp_consumer_server_found",
    ]


# --- REFACTOR_SEARCH --------------------------------------------------------------------------------


class Elsewhere(NamedTuple):
    ip_address: str
    routing_key: str


def test_refactor_search_runs_again_with_its_payload(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    closed = free_port()
    with FakeServer(generous_rabbit, host="127.0.0.2") as server:
        chart = scout("127.0.0.1", port=closed)
        checks.wait_for(1)
        chart.post_fifo(
            event(REFACTOR_SEARCH, {"ip_address": "127.0.0.2", "exchange_name": "snoop", "port": server.port})
        )
        checks.wait_for(2)
        chart.post_fifo(event(REFACTOR_SEARCH, Elsewhere(f"127.0.0.1:{closed}", "other.key")))
        checks.wait_for(3)
        chart.post_fifo(event(REFACTOR_SEARCH))
        checks.wait_for(4)
    assert [check[:5] for check in checks.payloads] == [
        ("127.0.0.1", False, "heya.man", "mesh", "refused"),
        ("127.0.0.2", True, "heya.man", "snoop", "ok"),
        (f"127.0.0.1:{closed}", False, "other.key", "snoop", "refused"),
        (f"127.0.0.1:{closed}", False, "other.key", "snoop", "refused"),
    ]


def test_overtaken_search_hangs_up_and_publishes_nothing(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(mute) as silent, FakeServer(generous_rabbit) as server:
        chart = scout("127.0.0.1", port=silent.port)
        wait_until(lambda: silent.visits)
        chart.post_fifo(event(REFACTOR_SEARCH, {"port": server.port}))
        checks.wait_for(1)
        silent.heard()  # waits until it has hung up
        chart.post_fifo(event(REFACTOR_SEARCH))
        checks.wait_for(2)
    assert [check.port for check in checks.payloads] == [server.port, server.port]


@pytest.mark.parametrize("payload", ["127.0.0.1", {"ip_address": 7}, {"port": "5672"}, {"exchange_name": None}])
def test_malformed_refactoring_is_reported_and_search_goes_on(
    scout: Build, recorder: Callable[..., Recorder], payload: Any
) -> None:
    checks, errors = recorder(AMQP_CONSUMER_CHECK), recorder(CACHE_ERROR)
    answer_now = False

    def talk(visit: Visit) -> None:
        wait_until(lambda: answer_now)
        generous_rabbit(visit)

    with FakeServer(talk) as server:
        chart = scout("127.0.0.1", port=server.port)
        chart.post_fifo(event(REFACTOR_SEARCH, payload))
        errors.wait_for(1)
        answer_now = True
        checks.wait_for(1)
    assert errors.payloads[0].reason is Reason.PAYLOAD
    assert [check.reason for check in checks.payloads] == ["ok"]


def test_published_refactoring_is_for_no_scout(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    publisher = recorder()
    scout("127.0.0.1", port=free_port())
    checks.wait_for(1)
    publisher.publish(event(REFACTOR_SEARCH))
    publisher.publish(event(AMQP_CONSUMER_CHECK, "the last"))
    checks.wait_for(2)
    assert checks.payloads[1] == "the last"


# --- stop, many -----------------------------------------------------------------------------------


def test_stop_in_mid_flight_hangs_up_publishing_nothing(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(mute) as server:
        chart = scout("127.0.0.1", port=server.port)
        wait_until(lambda: server.visits)
        chart.stop()
        server.heard()  # waits until it has hung up
        recorder().publish(event(AMQP_CONSUMER_CHECK, "the last"))
        checks.wait_for(1)
    assert checks.payloads == ["the last"]


def test_a_hundred_scouts_answer_once_each(scout: Build, recorder: Callable[..., Recorder]) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(generous_rabbit, host="127.0.0.9") as server:
        for n in range(50):
            scout(f"127.0.1.{n + 1}", port=server.port)
            scout("127.0.0.9", exchange_name=f"exchange {n}", port=server.port)
        checks.wait_for(100)
    assert len({check[:4] for check in checks.payloads}) == 100
    assert sum(check.result for check in checks.payloads) == 50


def test_its_other_names_are_the_same_chart() -> None:
    assert scout_module.ProduceScoutChart is ProducerScoutChart
    assert scout_module.RabbitConsumerScoutChart is ProducerScoutChart


def test_without_settings_it_takes_those_of_the_environment(
    prober: Prober,
    stopping: Callable[[Any], Any],
    recorder: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    port = free_port()
    monkeypatch.setenv("RABBIT_PORT", str(port))
    stopping(ProducerScoutChart("127.0.0.1", "key", "exchange", False, False, prober=prober))
    checks.wait_for(1)
    assert checks.payloads[0].port == port
    assert "consumer_test_complete" in signals
