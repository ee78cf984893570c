"""`ManNetChart`: hosts that somebody wrote down; one bad one never hides the good ones."""

from __future__ import annotations

import errno
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.probe.prober import Prober
from miros_cache_net.errors import Reason
from miros_cache_net.events import AMQP_CONSUMER_CHECK, CACHE_ERROR, CONNECTION_DISCOVERY, EVALUATE_HOSTS_FILE, event
from miros_cache_net.settings import Settings
from miros_cache_net.store.watch import FileWatch
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
        more.setdefault("prober", prober)
        chart: ManNetChart = stopping(ManNetChart("heya.man", "mesh", path, settings=settings, **more))
        return chart

    yield build
    prober.close()


@pytest.fixture
def found(recorder: Callable[..., Recorder]) -> Recorder:
    return recorder(CONNECTION_DISCOVERY)


class Quick(random.Random):
    """Shortens every pause to a few hundredths of a second."""

    def uniform(self, a: float, b: float) -> float:
        return 0.02


def hosts(payloads: list[Any]) -> list[list[str]]:
    return [payload.hosts for payload in payloads]


def put(path: Path, *entries: Any) -> None:
    path.write_text(json.dumps({"hosts": entries}))


# --- good and bad hosts -----------------------------------------------------------------------------


def test_good_hosts_are_told_among_bad_ones(
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


def test_slow_dns_and_silent_host_delay_nobody(man_net: Build, found: Recorder, path: Path) -> None:
    go_on, asked = threading.Event(), []

    def slow(host: str, port: int) -> Any:
        asked.append(host)
        assert go_on.wait(AMPLE_S)
        raise socket.gaierror("planted")

    with (
        FakeServer(generous_rabbit) as server,
        FakeServer(mute) as silent,
        closing(Prober(look_up=slow)) as prober,
    ):
        put(path, "slow.example", f"127.0.0.1:{silent.port}", f"127.0.0.1:{server.port}")
        chart = man_net(prober=prober)
        found.wait_for(1)
        assert hosts(found.payloads) == [[f"127.0.0.1:{server.port}"]]
        assert chart.state.fun.__name__ == "evaluate_hosts"
        assert asked == ["slow.example"]
        go_on.set()
        chart.stop()


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


def test_evaluate_hosts_file_scouts_all_hosts_again(man_net: Build, found: Recorder, path: Path) -> None:
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


def test_host_that_has_died_is_told_no_more(man_net: Build, found: Recorder, path: Path) -> None:
    with FakeServer(generous_rabbit) as server:
        put(path, f"127.0.0.1:{server.port}")
        chart = man_net()
        found.wait_for(lambda events: events and events[-1].payload.hosts)
        wait_until(lambda: chart.state.fun.__name__ == "manual_network")
    chart.post_fifo(event(EVALUATE_HOSTS_FILE))
    found.wait_for(lambda events: events[-1].payload.hosts == [])


def test_evaluation_request_waits_for_the_one_that_runs(man_net: Build, found: Recorder, path: Path) -> None:
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


def test_file_is_read_again_on_every_change(man_net: Build, found: Recorder, path: Path) -> None:
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


def test_unwatchable_file_is_read_and_watched_later(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path
) -> None:
    refusals = [OSError(errno.EMFILE, "Too many open files")] * 2
    watching = threading.Event()

    def watch(*args: Any) -> FileWatch:
        if refusals:
            raise refusals.pop()
        begun = FileWatch(*args)
        watching.set()
        return begun

    errors = recorder(CACHE_ERROR)
    with FakeServer(generous_rabbit) as server:
        peer = f"127.0.0.1:{server.port}"
        put(path, peer)
        man_net(watch=watch, rng=Quick())
        found.wait_for(lambda events: events and events[-1].payload.hosts == [peer])
        assert watching.wait(AMPLE_S)
        put(path)
        found.wait_for(lambda events: events[-1].payload.hosts == [])
    assert sum("not watched" in each.message for each in errors.payloads) == 1


def test_dead_host_alone_is_retried_until_it_returns(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    port = free_port()
    with FakeServer(generous_rabbit) as server:
        alive, dead = f"127.0.0.1:{server.port}", f"127.0.0.1:{port}"
        put(path, dead, alive)
        man_net(rng=Quick())
        checks.wait_for(lambda events: sum(each.payload.ip_address == dead for each in events) >= 4)
        assert len(server.visits) == 1
        with FakeServer(generous_rabbit, port=port):
            found.wait_for(lambda events: events and events[-1].payload.hosts == [dead, alive])
    assert hosts(found.payloads) == [[alive], [dead, alive]] or hosts(found.payloads) == [
        [alive],
        [alive],
        [dead, alive],
    ]


def test_dead_host_in_place_of_good_is_retried(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    with FakeServer(generous_rabbit) as server:
        put(path, f"127.0.0.1:{server.port}")
        man_net(rng=Quick())
        found.wait_for(lambda events: events and events[-1].payload.hosts)
        dead = f"127.0.0.1:{free_port()}"
        put(path, dead)
        checks.wait_for(lambda events: sum(each.payload.ip_address == dead for each in events) >= 3)


def test_hosts_that_stay_dead_are_told_once(
    man_net: Build, found: Recorder, recorder: Callable[..., Recorder], path: Path
) -> None:
    checks = recorder(AMQP_CONSUMER_CHECK)
    put(path, f"127.0.0.1:{free_port()}")
    man_net(rng=Quick())
    checks.wait_for(4)
    found.publish(event(CONNECTION_DISCOVERY, "the last"))
    found.wait_for(lambda events: events[-1].payload == "the last")
    assert len(found.payloads) == 2


# --- what is wrong with the file --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"hosts": "alpha"}', '{"host": []}', '{"hosts": [], "hosts": []}']
)
def test_malformed_hosts_file_is_reported_and_hosts_stay(
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


def test_bad_entries_are_named_without_their_passwords(
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


def test_too_many_hosts_are_cut_off_and_reported(
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


def test_stop_in_mid_flight_hangs_up_publishing_nothing(
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
