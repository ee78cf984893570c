"""`ManNetChart`: hosts that somebody wrote down; one bad one never hides the good ones."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.discovery import man_net as man_net_module
from miros_cache_net.discovery.man_net import ManNetChart, retry_after_s
from miros_cache_net.discovery.probe.prober import Prober
from miros_cache_net.errors import Reason
from miros_cache_net.events import AMQP_CONSUMER_CHECK, CACHE_ERROR, CONNECTION_DISCOVERY, EVALUATE_HOSTS_FILE, event
from miros_cache_net.settings import Settings
from miros_cache_net.testing import free_port, wait_until
from tests.charts.recorder import Recorder
from tests.fake_servers import FakeServer, Visit, generous_rabbit, mute

PASSWORD = "s3cr3t-that-nobody-may-see"
AMPLE_S = 30.0
Build = Callable[..., ManNetChart]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hosts.json"


@pytest.fixture
def man_net(stopping: Callable[[Any], Any], path: Path) -> Iterator[Build]:
    """Builds a chart on the fixture's file, with a prober of its own."""
    prober = Prober()

    def build(timeout_s: float = AMPLE_S, **more: Any) -> ManNetChart:
        settings = Settings(amqp_urls=f"amqp://u:{PASSWORD}@broker.example", scout_timeout_s=timeout_s)
        chart: ManNetChart = stopping(ManNetChart("heya.man", "mesh", path, settings=settings, prober=prober, **more))
        return chart

    yield build
    prober.close()


@pytest.fixture
def found(recorder: Callable[..., Recorder]) -> Recorder:
    return recorder(CONNECTION_DISCOVERY)


@pytest.fixture
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(man_net_module, "retry_after_s", lambda failures, rng: 0.05)


def hosts(payloads: list[Any]) -> list[list[str]]:
    return [payload.hosts for payload in payloads]


def put(path: Path, *entries: Any) -> None:
    path.write_text(json.dumps({"hosts": entries}))


# --- good and bad hosts -----------------------------------------------------------------------------


def test_the_good_hosts_are_told_among_dead_refused_silent_and_unresolvable_ones(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with (
        FakeServer(generous_rabbit) as one,
        FakeServer(generous_rabbit, "127.0.0.5") as two,
        FakeServer(mute) as silent,
    ):
        good = [f"localhost:{one.port}", f"127.0.0.5:{two.port}"]
        bad = [f"127.0.0.1:{free_port()}", "no-such-host.invalid", f"127.0.0.1:{silent.port}"]
        put(path, bad[0], good[0], bad[1], bad[2], good[1], good[0])
        man_net(timeout_s=1.0)
        found.wait_for(lambda events: events and events[-1].payload.hosts == good)
        checks.wait_for(5)
    assert {check.ip_address: check.reason for check in checks.payloads} == {
        good[0]: "ok",
        good[1]: "ok",
        bad[0]: "refused",
        bad[1]: "unresolvable",
        bad[2]: "silent",
    }
    url = f"amqp://u:{PASSWORD}@127.0.0.5:{two.port}/%2F"
    assert found.payloads[-1].amqp_urls[1] == url
    assert found.payloads[-1].dispatcher == "man_net_chart"


def test_slow_dns_and_a_silent_host_hold_nobody_up(
    man_net: Build, found: Recorder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: str, *arguments: Any, **more: Any) -> Any:
        if host == "slow.example" and not more.get("flags", 0) & socket.AI_NUMERICHOST:
            assert go_on.wait(AMPLE_S)
            raise socket.gaierror("planted")
        return look_up(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with FakeServer(generous_rabbit) as server, FakeServer(mute) as silent:
        put(path, "slow.example", f"127.0.0.1:{silent.port}", f"127.0.0.1:{server.port}")
        chart = man_net()
        found.wait_for(1)
        assert hosts(found.payloads) == [[f"127.0.0.1:{server.port}"]]
        assert chart.state.fun.__name__ == "evaluate_hosts"
        go_on.set()


def test_no_password_goes_outside_the_trusted_networks(man_net: Build, found: Recorder, path: Path) -> None:
    put(path)
    chart = man_net()
    found.wait_for(1)
    chart._file, chart._good = chart._file._replace(hosts=("192.0.2.1",)), {"192.0.2.1"}
    chart._tell()
    found.wait_for(2)
    assert found.payloads[-1].amqp_urls == ["amqp://u@192.0.2.1:5672/%2F"]
    assert PASSWORD not in repr(found.payloads[-1]) + str(chart.spy()) + str(chart.trace())


# --- asked again, changed, tried again --------------------------------------------------------------


def test_evaluate_hosts_file_scouts_them_all_again_and_answers_each_time(
    man_net: Build, found: Recorder, path: Path
) -> None:
    with FakeServer(generous_rabbit) as server:
        put(path, f"127.0.0.1:{server.port}")
        chart = man_net()
        found.wait_for(1)
        wait_until(lambda: chart.state.fun.__name__ == "manual_network")
        before = len(found.events)
        found.publish(event(EVALUATE_HOSTS_FILE))
        found.wait_for(before + 1)
        chart.post_fifo(event(EVALUATE_HOSTS_FILE))
        found.wait_for(before + 2)
        wait_until(lambda: len(server.visits) == 3)
    assert {tuple(each) for each in hosts(found.payloads)} == {(f"127.0.0.1:{server.port}",)}


def test_a_host_that_has_died_since_is_told_no_more_when_asked_again(
    man_net: Build, found: Recorder, path: Path
) -> None:
    with FakeServer(generous_rabbit) as server:
        put(path, f"127.0.0.1:{server.port}")
        chart = man_net()
        found.wait_for(lambda events: events and events[-1].payload.hosts)
        wait_until(lambda: chart.state.fun.__name__ == "manual_network")
    chart.post_fifo(event(EVALUATE_HOSTS_FILE))
    found.wait_for(lambda events: events[-1].payload.hosts == [])


def test_an_evaluation_asked_for_while_one_runs_comes_after_it(man_net: Build, found: Recorder, path: Path) -> None:
    go_on = threading.Event()

    def talk(visit: Visit) -> None:
        assert go_on.wait(AMPLE_S)
        generous_rabbit(visit)

    with FakeServer(talk) as server:
        put(path, f"127.0.0.1:{server.port}")
        chart = man_net()
        wait_until(lambda: server.visits)
        chart.post_fifo(event(EVALUATE_HOSTS_FILE))
        wait_until(lambda: len(chart.defer_queue) == 1)
        assert found.payloads == []
        go_on.set()
        wait_until(lambda: len(server.visits) == 2)
        found.wait_for(2)


def test_the_file_is_read_again_when_it_changes_comes_or_goes(man_net: Build, found: Recorder, path: Path) -> None:
    with FakeServer(generous_rabbit) as one, FakeServer(generous_rabbit) as two:
        man_net()
        found.wait_for(1)
        assert hosts(found.payloads) == [[]]
        first, second = f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"
        put(path, first)
        found.wait_for(lambda events: events[-1].payload.hosts == [first])
        put(path, second, first)
        found.wait_for(lambda events: events[-1].payload.hosts == [second, first])
        put(path, second)
        found.wait_for(lambda events: events[-1].payload.hosts == [second])
        path.unlink()
        found.wait_for(lambda events: events[-1].payload.hosts == [])


def test_a_dead_host_is_tried_again_alone_until_it_comes_back(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path, retries_at_once: None
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    port = free_port()
    with FakeServer(generous_rabbit) as server:
        alive, dead = f"127.0.0.1:{server.port}", f"127.0.0.1:{port}"
        put(path, dead, alive)
        man_net()
        checks.wait_for(lambda events: sum(each.payload.ip_address == dead for each in events) >= 4)
        assert len(server.visits) == 1
        with FakeServer(generous_rabbit, port=port):
            found.wait_for(lambda events: events and events[-1].payload.hosts == [dead, alive])
    assert hosts(found.payloads) == [[alive], [dead, alive]] or hosts(found.payloads) == [
        [alive],
        [alive],
        [dead, alive],
    ]


def test_a_host_that_takes_the_place_of_a_good_one_is_tried_again_too(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path, retries_at_once: None
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(generous_rabbit) as server:
        put(path, f"127.0.0.1:{server.port}")
        man_net()
        found.wait_for(lambda events: events and events[-1].payload.hosts)
        dead = f"127.0.0.1:{free_port()}"
        put(path, dead)
        checks.wait_for(lambda events: sum(each.payload.ip_address == dead for each in events) >= 3)


def test_hosts_that_stay_dead_are_told_once_not_at_every_try(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path, retries_at_once: None
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    put(path, f"127.0.0.1:{free_port()}")
    man_net()
    checks.wait_for(4)
    found.publish(event(CONNECTION_DISCOVERY, "the last"))
    found.wait_for(lambda events: events[-1].payload == "the last")
    assert len(found.payloads) == 2


def test_the_pause_between_tries_doubles_up_to_a_bound_and_is_never_the_same_twice() -> None:
    rng = random.Random(7)
    pauses = [[retry_after_s(failures, rng) for _ in range(50)] for failures in (0, 1, 2, 1000)]
    for each, bound_s in zip(pauses, (2.0, 4.0, 8.0, limits.HOSTS_RETRY_TOP_S), strict=True):
        assert bound_s / 2 <= min(each) < max(each) <= bound_s


# --- what is wrong with the file --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"hosts": "alpha"}', '{"host": []}', '{"hosts": [], "hosts": []}']
)
def test_what_is_no_hosts_file_is_reported_and_the_hosts_of_before_stay(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path, text: str
) -> None:
    errors = recorder(CACHE_ERROR)
    with FakeServer(generous_rabbit) as server:
        put(path, f"127.0.0.1:{server.port}")
        chart = man_net()
        found.wait_for(lambda events: events and events[-1].payload.hosts)
        path.write_text(text)
        errors.wait_for(1)
        before = len(found.events)
        chart.post_fifo(event(EVALUATE_HOSTS_FILE))
        found.wait_for(before + 1)
    assert found.payloads[-1].hosts == [f"127.0.0.1:{server.port}"]
    assert errors.payloads[0].reason is Reason.MALFORMED
    assert errors.payloads[0].message.startswith(f"{path}: ")
    assert errors.payloads[0].message.count(path.name) == 1


def test_entries_that_are_no_hosts_are_named_without_their_passwords_and_the_others_are_tried(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path
) -> None:
    errors = recorder(CACHE_ERROR)
    with FakeServer(generous_rabbit) as server:
        good = f"127.0.0.1:{server.port}"
        put(path, 7, f"amqp://u:{PASSWORD}@alpha", "two words", good, "alpha:99999")
        man_net()
        found.wait_for(lambda events: events and events[-1].payload.hosts == [good])
        errors.wait_for(4)
    messages = [error.message for error in errors.payloads]
    assert [message.partition(":")[2].split()[1] for message in messages] == ["1", "2", "3", "5"]
    assert {error.reason for error in errors.payloads} == {Reason.PAYLOAD}
    assert PASSWORD not in str(messages)


def test_more_hosts_than_anybody_dials_are_cut_off_and_it_is_said(
    man_net: Build, recorder: Callable[..., Recorder], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LAN_PEERS", 3)
    checks, errors = recorder(AMQP_CONSUMER_CHECK), recorder(CACHE_ERROR)
    put(path, *(f"127.0.0.{n}:{free_port()}" for n in range(1, 9)))
    man_net()
    checks.wait_for(3)
    errors.wait_for(1)
    assert "only its first 3 hosts" in errors.payloads[0].message


def test_a_file_that_cannot_be_read_is_reported(man_net: Build, recorder: Callable[..., Recorder], path: Path) -> None:
    errors = recorder(CACHE_ERROR)
    path.mkdir()
    man_net()
    errors.wait_for(1)
    assert errors.payloads[0].reason is Reason.IO


def test_stopped_in_mid_flight_it_hangs_up_and_publishes_nothing(
    man_net: Build, recorder: Callable[..., Recorder], path: Path
) -> None:
    heard = recorder(AMQP_CONSUMER_CHECK, CONNECTION_DISCOVERY)
    with FakeServer(mute) as server:
        put(path, f"127.0.0.1:{server.port}")
        chart = man_net()
        wait_until(lambda: server.visits)
        chart.stop()
        server.heard()  # waits until it has hung up
        heard.publish(event(CONNECTION_DISCOVERY, "the last"))
        heard.wait_for(1)
    assert heard.payloads == ["the last"]
