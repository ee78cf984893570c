"""Networked charts on a real RabbitMQ, as programs of `miros-rabbitmq` use them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from miros.activeobject import ActiveObject, Factory
from miros.event import Event, signals

from miros_cache_net.errors import ChartError, EventNotSendable, SettingsError
from miros_cache_net.events import CACHE_ERROR
from miros_cache_net.mesh import CacheFileChart, NetworkedActiveObject, NetworkedFactory
from miros_cache_net.statechart.listener import Listener
from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.mesh.networked_charts import Flat, Mesh, connected, flat, hears, says_until_heard, start
from tests.threads import NewThreads


@pytest.fixture
def mesh(rabbit_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mesh]:
    monkeypatch.chdir(tmp_path)
    made = Mesh(rabbit_url, tmp_path)
    yield made
    made.close()


def b(payload: object = None) -> Event:
    return Event(signal=signals.B, payload=payload)


# --- events -------------------------------------------------------------------------------------------------


def test_an_event_reaches_every_listening_chart(mesh: Mesh) -> None:
    alpha, beta = mesh.up("alpha"), mesh.up("beta")
    everything, other = mesh.up("all", rx_routing_key="#"), mesh.up("other", rx_routing_key=f"{mesh.word}.*.*")
    alpha.transmit(b({"n": 1}))
    alpha.transmit(Event(signal=signals.C))
    for chart in (beta, everything):
        wait_until(lambda chart=chart: len(chart.heard) == 2)
        assert chart.heard == [("B", {"n": 1}), ("C", None)]
    beta.transmit(b("last"))
    hears(alpha, "last")
    assert not other.heard


def test_an_event_comes_back_only_where_that_is_asked_for(mesh: Mesh) -> None:
    alpha, beta = mesh.up("alpha"), mesh.up("beta")
    alpha.transmit(b(1))
    alpha.transmit(b(2), to_self=True)
    hears(beta, 1, 2)
    hears(alpha, 2)


def test_an_event_that_carries_the_receivers_name_is_its_own(mesh: Mesh) -> None:
    alpha, beta = mesh.up("alpha"), mesh.up("beta")
    for payload in ("beta", "alpha"):
        alpha.transmit(b(payload))
    hears(beta, "alpha")


def test_events_of_one_chart_arrive_in_order_and_once(mesh: Mesh) -> None:
    alpha, beta = mesh.up("alpha"), mesh.up("beta")
    for n in range(2000):
        alpha.transmit(b(n))
    hears(beta, *range(2000))
    assert alpha.nets.counters["mesh_sent"] == 2000 and beta.nets.counters["mesh_received"] == 2000


@pytest.mark.parametrize("payload", [object(), float("nan"), {"a": {1}}])
def test_a_payload_beyond_json_is_a_type_error(mesh: Mesh, payload: Any) -> None:
    with pytest.raises(TypeError) as caught:
        mesh.make().transmit(b(payload))
    assert isinstance(caught.value, EventNotSendable)
    with pytest.raises(TypeError, match="only a miros Event"):
        mesh.make().transmit("B")


def test_charts_in_the_flat_style_talk_to_the_others(mesh: Mesh) -> None:
    alpha, beta = mesh.make("alpha", Flat), mesh.up("beta")
    alpha.heard = []
    alpha.start_at(flat)
    connected(alpha)
    beta.transmit(b(1))
    hears(alpha, 1)
    alpha.transmit(b(2))
    hears(beta, 2)
    assert "B:flat:HOOK" in alpha.spy()


def test_more_than_500_one_shots_are_no_trouble(mesh: Mesh) -> None:
    alpha = mesh.up("alpha")
    for n in range(600):
        alpha.post_fifo(b(n), times=1, period=0.001, deferred=True)
    wait_until(lambda: len(alpha.heard) == 600)


# --- what it is built with ----------------------------------------------------------------------------------


def test_it_is_built_as_the_old_classes_are(mesh: Mesh, rabbit_server: RabbitServer, monkeypatch: Any) -> None:
    """By position, from the eight names of `.env`, arguments first."""
    monkeypatch.setenv("RABBIT_PORT", str(rabbit_server.port))
    monkeypatch.setenv("MIROS_CACHE_DISCOVER", "127.0.0.1")
    monkeypatch.setenv("RABBIT_USER", "nobody")
    monkeypatch.setenv("RABBIT_PASSWORD", "wrong")
    monkeypatch.setenv("RABBIT_HEARTBEAT_INTERVAL", "3600")
    monkeypatch.setenv("CONNECTION_ATTEMPTS", "3")
    spy, trace = generate_key(), generate_key()
    monkeypatch.setenv("MESH_ENCRYPTION_KEY", generate_key().decode())
    monkeypatch.setenv("SNOOP_SPY_ENCRYPTION_KEY", generate_key().decode())
    monkeypatch.setenv("SNOOP_TRACE_ENCRYPTION_KEY", trace.decode())
    charts = [
        NetworkedFactory("alpha", "guest", "guest", mesh.key.decode(), "a.b", "a.*", spy),
        NetworkedActiveObject(
            name="beta", rabbit_user="guest", rabbit_password="guest", mesh_encryption_key=mesh.key,
            tx_routing_key="a.c", rx_routing_key="a.b", snoop_spy_encryption_key=spy.decode(),
        ),
    ]  # fmt: skip
    mesh.charts += charts
    alpha, beta = charts
    for chart in charts:
        assert chart.nets.mesh.encryption_key == mesh.key
        assert (chart.nets.snoop.spy.encryption_key, chart.nets.snoop.trace.encryption_key) == (spy, trace)
        start(chart)
        connected(chart)
    alpha.transmit(b(1))
    hears(beta, 1)
    assert isinstance(alpha, Factory) and isinstance(beta, ActiveObject)
    assert (alpha.nets.mesh.tx_routing_key, alpha.nets.mesh.rx_routing_key) == ("a.b", "a.*")


def test_user_password_and_key_are_all_that_is_needed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESH_ENCRYPTION_KEY", raising=False)
    chart = NetworkedFactory("alpha", "guest", "guest", mesh.key)
    plan = chart.nets.mesh
    assert (plan.tx_routing_key, plan.rx_routing_key) == ("empty", "empty")
    assert NetworkedFactory("alpha", "guest", "guest", mesh.key, "x.y").nets.mesh.rx_routing_key == "x.y"
    assert chart.nets.snoop.spy.encryption_key == chart.nets.snoop.trace.encryption_key == mesh.key


def test_a_subclass_may_name_itself_before_it_is_built(mesh: Mesh) -> None:
    class Ship(NetworkedFactory):
        def __init__(self, name: str, **more: Any) -> None:
            self.name = f"{name}-1"
            super().__init__(self.name, "guest", "guest", mesh.key, settings=mesh.settings(), **more)

    assert Ship("ship").name == "ship-1"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mesh_encryption_key": "no key"}, "^mesh_encryption_key: not a Fernet key .*MESH_ENCRYPTION_KEY.* key new`$"),
        ({"mesh_encryption_key": None}, "no key configured.*MESH_ENCRYPTION_KEY.*`miros-cache-net key new`$"),
        ({"snoop_trace_encryption_key": b"short"}, "snoop_trace_encryption_key"),
        ({"tx_routing_key": "x" * 256}, "tx_routing_key"),
    ],
)
def test_a_wrong_argument_is_one_line_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"mesh_encryption_key": generate_key(), **more}
    with pytest.raises(SettingsError, match=words) as caught:
        NetworkedFactory("alpha", "guest", "secret-word", **given)
    assert "secret-word" not in str(caught.value) and "\n" not in str(caught.value)


def test_malformed_key_of_the_environment_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_ENCRYPTION_KEY", "no key")
    with pytest.raises(
        SettingsError, match=r"^the mesh's key .*; set MESH_ENCRYPTION_KEY .*`miros-cache-net key new`$"
    ):
        NetworkedFactory("alpha", "guest", "guest")


def test_neither_chart_nor_nets_show_a_secret(mesh: Mesh) -> None:
    chart = NetworkedFactory("alpha", "bob", "secret-word", mesh.key)
    for shown in (repr(chart), repr(chart.nets), repr(chart.nets.mesh), repr(chart.nets.settings), chart.this_url()):
        assert "secret-word" not in shown and mesh.key.decode() not in shown
    assert chart.this_url().startswith("amqp://bob:***@") and "127.0.0.1" not in chart.this_url()


def test_the_package_exports_the_three_names() -> None:
    from miros_cache_net import CacheFileChart as ours

    assert CacheFileChart is ours


# --- what a program does its own way ------------------------------------------------------------------------


def test_a_subclass_hears_events_its_own_way(mesh: Mesh) -> None:
    told: list[Any] = []

    class Own(NetworkedFactory):
        def on_network_message(self, ch: None, method: Any, properties: Any, payload: Any) -> None:
            told.append((ch, method, properties, payload))
            if payload[1].payload == "raise":
                raise RuntimeError("of the program")
            super().on_network_message(ch, method, properties, payload)

    alpha, beta = mesh.up("alpha"), mesh.up("beta", Own)
    errors: list[Any] = []
    with Listener({CACHE_ERROR: errors.append}):
        for payload in ("raise", "after"):
            alpha.transmit(b(payload))
        hears(beta, "after")
        wait_until(lambda: any("of the program" in error.message for error in errors))
    ch, method, properties, (sender, event) = told[0]
    assert ch is None and method.routing_key == f"{mesh.word}.man" and method.delivery_tag == 1 and properties.app_id
    assert event.signal_name == "B" and not sender.startswith("127.")
    assert [each[1].delivery_tag for each in told] == [1, 2]


def test_a_slow_method_does_not_block_the_link(mesh: Mesh) -> None:
    go_on = threading.Event()

    class Slow(NetworkedFactory):
        def on_network_message(self, ch: None, method: Any, properties: Any, payload: Any) -> None:
            go_on.wait(30)
            super().on_network_message(ch, method, properties, payload)

    alpha, beta = mesh.up("alpha"), mesh.up("beta", Slow)
    for n in range(50):
        alpha.transmit(b(n))
    wait_until(lambda: beta.nets.counters["mesh_received"] == 50)
    beta.transmit(b("meanwhile"))
    hears(alpha, "meanwhile")
    go_on.set()
    hears(beta, *range(50))


# --- keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["change_mesh_encryption_key", "change_mesh_encyption_key"])
def test_a_key_is_changed_while_charts_run(mesh: Mesh, spelling: str) -> None:
    alpha, beta, new = mesh.up("alpha"), mesh.up("beta"), generate_key()
    getattr(alpha.nets, spelling)(new)
    alpha.transmit(b("under the new key"))
    wait_until(lambda: beta.nets.counters["mesh_refused_not_authentic"] == 1)
    getattr(beta.nets, spelling)(new.decode())
    alpha.transmit(b("after"))
    hears(beta, "after")
    with pytest.raises(SettingsError):
        getattr(alpha.nets, spelling)("no key")


# --- beginning and end --------------------------------------------------------------------------------------


def test_stop_leaves_no_thread_no_connection_and_no_queue(mesh: Mesh, rabbit_server: RabbitServer) -> None:
    threads = NewThreads()
    charts = [mesh.make(f"n{n}") for n in range(2)]
    for chart in charts:
        chart.enable_snoop_trace()
        chart.enable_snoop_spy()
        start(chart)
        connected(chart)
        chart.transmit(b())
    for chart in charts:
        chart.stop()
    assert set(threads.names()) <= {"miros-cache-probes"}
    wait_until(lambda: "amq.gen" not in rabbit_server.ctl("list_queues", "name"), 30)
    wait_until(lambda: "127.0.0.1" not in rabbit_server.ctl("list_connections", "name"), 30)


def test_a_chart_that_is_started_again_hears_again(mesh: Mesh) -> None:
    alpha, beta = mesh.up("alpha"), mesh.up("beta")
    with pytest.raises(ChartError, match="running already"):
        alpha.start_at("listening")
    alpha.stop()
    alpha.stop()
    alpha.start_at("listening")
    connected(alpha)
    says_until_heard(beta, alpha, 1)
    says_until_heard(alpha, beta, 2)


def test_a_chart_stops_itself_from_its_handler(mesh: Mesh) -> None:
    threads = NewThreads()
    alpha = mesh.make("alpha")
    alpha.create(state="ends").catch(signal=signals.B, handler=lambda chart, e: chart.stop() or 4)
    alpha.start_at("ends")
    connected(alpha)
    alpha.post_fifo(b())
    wait_until(lambda: not alpha.running and set(threads.names()) <= {"miros-cache-probes"}, 30)


def test_three_charts_share_two_connections_and_a_thread(mesh: Mesh, rabbit_server: RabbitServer) -> None:
    threads = NewThreads()
    for n in range(3):
        chart = mesh.make(f"n{n}")
        chart.enable_snoop_trace()
        chart.enable_snoop_spy()
        start(chart)
        connected(chart)
    links = threads.names("link")
    assert len(links) == 1, links
    wait_until(lambda: rabbit_server.ctl("list_connections", "name").count("127.0.0.1") == 4, 30, "2 x 2 addresses")


def test_without_a_broker_it_starts_sends_and_catches_up(mesh: Mesh, tmp_path: Path) -> None:
    with RabbitServer() as server:
        late = Mesh(server.url, tmp_path)
        server.stop()
        alpha = late.make("alpha")
        errors: list[Any] = []
        with Listener({CACHE_ERROR: errors.append}):
            start(alpha)
            for n in range(3):
                alpha.transmit(b(n))
            wait_until(lambda: any("hears no other program" in error.message for error in errors), 30)
        beta = late.make("beta")
        start(beta)
        server.start()
        try:
            connected(beta)
            connected(alpha)
            says_until_heard(alpha, beta, "after")
            says_until_heard(beta, alpha, "back")
        finally:
            late.close()


def test_a_brokers_restart_is_healed(mesh: Mesh, tmp_path: Path) -> None:
    with RabbitServer() as server:
        broken = Mesh(server.url, tmp_path)
        try:
            alpha, beta = broken.up("alpha"), broken.up("beta")
            says_until_heard(alpha, beta, "before")
            server.kill()
            alpha.transmit(b("meanwhile"))
            server.start()
            connected(beta)
            says_until_heard(alpha, beta, "after")
            says_until_heard(beta, alpha, "back")
        finally:
            broken.close()
