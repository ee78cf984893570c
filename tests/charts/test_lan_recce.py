"""`LanRecceChart`: many addresses scouted at once, one at a time asked for, each asked for answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.discovery import lan_recce as lan_recce_module
from miros_cache_net.discovery.lan_recce import LanRecceChart, swept_ports
from miros_cache_net.discovery.probe.prober import Prober, ProbeResult, Verdict
from miros_cache_net.discovery.sweep.survey import Surveyed
from miros_cache_net.discovery.sweep.sweep import Answer, SweepResult
from miros_cache_net.errors import Reason
from miros_cache_net.events import (
    AMQP_CONSUMER_CHECK,
    CACHE_ERROR,
    LAN_RECCE_COMPLETE,
    LAN_RECCE_PROGRESS,
    RECCE_LAN,
    event,
)
from miros_cache_net.payloads import RecceProgressPayload
from miros_cache_net.settings import Settings
from miros_cache_net.testing import free_port, wait_until
from tests.charts.recorder import Recorder
from tests.fake_servers import FakeServer, Visit, generous_rabbit, mute

AMPLE_S = 30.0
Build = Callable[..., LanRecceChart]


@pytest.fixture
def recce(stopping: Callable[[Any], Any]) -> Iterator[Build]:
    """Builds a recce chart with a prober of its own."""
    prober = Prober()

    def build(
        candidates: Callable[[], Iterable[str]] | None, timeout_s: float = AMPLE_S, port: int = 5672
    ) -> LanRecceChart:
        settings = Settings(rabbit_port=port, scout_timeout_s=timeout_s)
        chart: LanRecceChart = stopping(
            LanRecceChart("heya.man", "mesh", candidates=candidates, settings=settings, prober=prober)
        )
        return chart

    yield build
    prober.close()


def test_good_addresses_are_found_among_bad_ones(recce: Build, recorder: Callable[..., Recorder]) -> None:
    checks, completed = recorder(AMQP_CONSUMER_CHECK), recorder(LAN_RECCE_COMPLETE)
    with (
        FakeServer(generous_rabbit, host="127.0.0.5") as one,
        FakeServer(generous_rabbit, host="127.0.0.6", port=one.port),
        FakeServer(mute, host="127.0.0.7", port=one.port),
    ):
        candidates = ["127.0.0.6", "127.0.0.7", "no-such-host.invalid", "not an address", f"127.0.0.8:{free_port()}"]
        chart = recce(lambda: [*candidates, "127.0.0.5", "127.0.0.6"], timeout_s=1.0, port=one.port)
        chart.post_fifo(event(RECCE_LAN, "who asks"))
        completed.wait_for(1)
    result = completed.payloads[0]
    assert result.other_addresses == ["127.0.0.6", "127.0.0.5"]
    assert result.my_address.count(".") == 3
    assert (result.request, result.failed) == ("who asks", "")
    assert {check.ip_address: check.reason for check in result.checks} == {
        "127.0.0.5": "ok",
        "127.0.0.6": "ok",
        "127.0.0.7": "silent",
        "no-such-host.invalid": "unresolvable",
        "not an address": "unresolvable",
        candidates[-1]: "refused",
    }
    checks.wait_for(6)
    assert checks.payloads == list(result.checks)
    assert {check[2:4] for check in result.checks} == {("heya.man", "mesh")}


def test_each_verdict_is_published_as_soon_as_known(recce: Build, recorder: Callable[..., Recorder]) -> None:
    checks, completed = recorder(AMQP_CONSUMER_CHECK), recorder(LAN_RECCE_COMPLETE)
    with FakeServer(mute) as silent:
        chart = recce(lambda: [f"127.0.0.1:{silent.port}", f"127.0.0.1:{free_port()}"])
        chart.post_fifo(event(RECCE_LAN))
        checks.wait_for(1)
        assert checks.payloads[0].reason == "refused"
        assert completed.payloads == []


def test_all_candidates_are_scouted_beyond_scouts_at_once(
    recce: Build, recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCOUTS_AT_ONCE", 4)
    arrived = threading.Semaphore(0)
    go_on = threading.Event()

    def talk(visit: Visit) -> None:
        arrived.release()
        assert go_on.wait(AMPLE_S)
        generous_rabbit(visit)

    completed = recorder(LAN_RECCE_COMPLETE)
    with FakeServer(talk, host="0.0.0.0") as server:
        chart = recce(lambda: (f"127.0.2.{n}" for n in range(1, 51)), port=server.port)
        chart.post_fifo(event(RECCE_LAN))
        for _ in range(4):
            assert arrived.acquire(timeout=AMPLE_S)
        assert not arrived.acquire(timeout=0.1), "a fifth one is on its way"
        go_on.set()
        # the chart of a test before this one may still have a recce to end
        wait_until(
            lambda: 50 in [len(each.other_addresses) for each in completed.payloads], AMPLE_S, "all to be scouted"
        )


def test_recce_requests_wait_for_the_one_that_runs(recce: Build, recorder: Callable[..., Recorder]) -> None:
    completed = recorder(LAN_RECCE_COMPLETE)
    go_on = threading.Event()

    def talk(visit: Visit) -> None:
        assert go_on.wait(AMPLE_S)
        generous_rabbit(visit)

    with FakeServer(talk) as server:
        chart = recce(lambda: [f"127.0.0.1:{server.port}"])
        for n in range(3):
            chart.post_fifo(event(RECCE_LAN, n))
        wait_until(lambda: server.visits)
        wait_until(lambda: len(chart.defer_queue) == 2)
        assert completed.payloads == []
        go_on.set()
        completed.wait_for(3)
        assert len(server.visits) == 3
    assert [payload.request for payload in completed.payloads] == [0, 1, 2]


def test_a_published_recce_lan_is_heard(recce: Build, recorder: Callable[..., Recorder]) -> None:
    completed = recorder(LAN_RECCE_COMPLETE)
    recce(list)
    completed.publish(event(RECCE_LAN))
    completed.wait_for(1)
    assert completed.payloads[0].other_addresses == []
    assert completed.payloads[0].checks == ()


def test_recce_fails_without_candidates_and_then_recovers(recce: Build, recorder: Callable[..., Recorder]) -> None:
    completed, errors = recorder(LAN_RECCE_COMPLETE), recorder(CACHE_ERROR)
    answers: Iterator[Any] = iter([OSError("planted"), 7, ["127.0.0.1"]])

    def candidates() -> Iterable[str]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        result: Iterable[str] = answer
        return result

    chart = recce(candidates, port=free_port())
    for _ in range(3):
        chart.post_fifo(event(RECCE_LAN))
    completed.wait_for(3)
    errors.wait_for(2)
    assert "planted" in completed.payloads[0].failed
    assert "TypeError" in completed.payloads[1].failed
    assert [check.reason for check in completed.payloads[2].checks] == ["refused"]
    assert {error.reason for error in errors.payloads} == {Reason.HANDLER}


def test_late_answer_of_earlier_life_does_not_count(recce: Build, recorder: Callable[..., Recorder]) -> None:
    completed = recorder(LAN_RECCE_COMPLETE)
    go_on = threading.Event()

    def talk(visit: Visit) -> None:
        assert go_on.wait(AMPLE_S)
        generous_rabbit(visit)

    with FakeServer(talk) as server:
        peer = f"127.0.0.1:{server.port}"
        chart = recce(lambda: [peer])
        for lives in (1, 2):
            chart.post_fifo(event(RECCE_LAN))
            wait_until(lambda lives=lives: len(server.visits) == lives)  # type: ignore[misc]
            if lives == 1:
                chart.stop()
                chart.start_at("private_search")
        late = ProbeResult("127.0.0.1", server.port, Verdict.CANCELLED, "cancelled")
        chart.post_fifo(event("address_scouted", (1, peer, late)))
        wait_until(lambda: "address_scouted:recce_rabbit_consumers:HOOK" in chart.spy())
        assert completed.payloads == []
        go_on.set()
        completed.wait_for(1)
    assert completed.payloads[0].other_addresses == [peer]


def test_stop_in_mid_flight_hangs_up_publishing_nothing(recce: Build, recorder: Callable[..., Recorder]) -> None:
    heard = recorder(AMQP_CONSUMER_CHECK, LAN_RECCE_COMPLETE)
    with FakeServer(mute) as server:
        chart = recce(lambda: [f"127.0.0.{n}:{server.port}" for n in (1, 1)])
        chart.post_fifo(event(RECCE_LAN))
        wait_until(lambda: server.visits)
        chart.stop()
        server.heard()  # waits until it has hung up
        heard.publish(event(LAN_RECCE_COMPLETE, "the last"))
        heard.wait_for(1)
    assert heard.payloads == ["the last"]


# --- the sweep --------------------------------------------------------------------------------------


class PlannedSurvey:
    """Stands for `Survey`: no test may sweep the network that it happens to run in."""

    surveys: list[PlannedSurvey]

    def __init__(self, **asked: Any) -> None:
        self.ports, self.largest_prefix = asked["ports"], asked["largest_prefix"]
        self.progress, self.done = asked["progress"], asked["done"]
        self.started = self.cancelled = False
        PlannedSurvey.surveys.append(self)

    def start(self) -> None:
        self.started = True

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def surveys(monkeypatch: pytest.MonkeyPatch) -> list[PlannedSurvey]:
    monkeypatch.setattr(PlannedSurvey, "surveys", [], raising=False)
    monkeypatch.setattr(lan_recce_module, "Survey", PlannedSurvey)
    return PlannedSurvey.surveys


def opened(*targets: tuple[str, int]) -> tuple[SweepResult, ...]:
    return tuple(SweepResult(*target, Answer.OPEN, 0.001) for target in targets)


def test_what_the_sweep_finds_open_is_scouted(
    recce: Build, recorder: Callable[..., Recorder], surveys: list[PlannedSurvey]
) -> None:
    told = recorder(LAN_RECCE_PROGRESS, LAN_RECCE_COMPLETE)
    with FakeServer(generous_rabbit, "127.0.0.5") as one, FakeServer(generous_rabbit, "127.0.0.6") as two:
        chart = recce(None, port=one.port)
        chart.post_fifo(event(RECCE_LAN, "who asks"))
        wait_until(lambda: surveys and surveys[0].started)
        (survey,) = surveys
        assert (survey.ports, survey.largest_prefix) == ((one.port,), 22)
        survey.progress(10, 254, 1)
        told.wait_for(1)
        assert told.payloads == [RecceProgressPayload("sweep", 10, 254, 1, "who asks")]
        survey.done(Surveyed(opened(("127.0.0.6", two.port), ("127.0.0.5", one.port)), 3, 249, ("too large",)))
        told.wait_for(lambda events: events and events[-1].signal_name == LAN_RECCE_COMPLETE)
    result = told.payloads[-1]
    assert told.payloads[1] == RecceProgressPayload("sweep", 254, 254, 2, "who asks"), "whatever the sweep itself told"
    assert result.other_addresses == [f"127.0.0.6:{two.port}", "127.0.0.5"]
    assert (result.swept, result.declined, result.request, result.failed) == (254, ("too large",), "who asks", "")
    assert told.payloads[-2] == RecceProgressPayload("scout", 2, 2, 2, "who asks")


def test_recce_request_waits_for_the_sweep_that_runs(
    recce: Build, recorder: Callable[..., Recorder], surveys: list[PlannedSurvey]
) -> None:
    completed = recorder(LAN_RECCE_COMPLETE)
    chart = recce(None)
    chart.post_fifo(event(RECCE_LAN, 1))
    chart.post_fifo(event(RECCE_LAN, 2))
    wait_until(lambda: len(chart.defer_queue) == 1)
    assert len(surveys) == 1
    surveys[0].done(Surveyed(refused=254))
    wait_until(lambda: len(surveys) == 2)
    surveys[1].done(Surveyed(silent=254))
    completed.wait_for(2)
    assert [payload.request for payload in completed.payloads] == [1, 2]


def test_fruitless_sweep_fails_the_recce_and_says_why(
    recce: Build, recorder: Callable[..., Recorder], surveys: list[PlannedSurvey]
) -> None:
    completed, errors = recorder(LAN_RECCE_COMPLETE), recorder(CACHE_ERROR)
    chart = recce(None)
    chart.post_fifo(event(RECCE_LAN))
    wait_until(lambda: surveys)
    surveys[0].done(Surveyed(declined=("too large",), failed="too large"))
    completed.wait_for(1)
    errors.wait_for(1)
    assert (completed.payloads[0].failed, completed.payloads[0].declined) == ("too large", ("too large",))
    assert "too large" in errors.payloads[0].message


def test_stop_ends_the_sweep_and_drops_its_results(
    recce: Build, recorder: Callable[..., Recorder], surveys: list[PlannedSurvey]
) -> None:
    heard = recorder(LAN_RECCE_PROGRESS, LAN_RECCE_COMPLETE)
    chart = recce(None)
    chart.post_fifo(event(RECCE_LAN))
    wait_until(lambda: surveys)
    chart.stop()
    assert surveys[0].cancelled
    chart.start_at("private_search")
    chart.post_fifo(event(RECCE_LAN, "second life"))
    wait_until(lambda: len(surveys) == 2)
    surveys[0].progress(1, 2, 3)
    surveys[0].done(Surveyed(opened(("127.0.0.9", 1))))
    wait_until(lambda: "sweep_complete:identify_all_ip_addresses:HOOK" in chart.spy())
    assert heard.payloads == []
    surveys[1].done(Surveyed(silent=1))
    heard.wait_for(lambda events: events and events[-1].signal_name == LAN_RECCE_COMPLETE)
    assert [payload.request for payload in heard.payloads] == ["second life"] * len(heard.payloads)
    assert heard.payloads[-1].checks == ()


@pytest.mark.parametrize(
    ("urls", "ports"),
    [
        ("amqp://a", (5672,)),
        ("amqp://a:1,amqp://b:2,amqp://c:1,amqps://d:3", (1, 2)),
        ("amqps://a,amqp://b", (5671,)),
    ],
)
def test_sweep_covers_the_ports_of_similar_brokers(urls: str, ports: tuple[int, ...]) -> None:
    assert swept_ports(Settings(amqp_urls=urls)) == ports
