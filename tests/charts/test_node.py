"""`CacheNode` on the in-memory broker: the whole node, real files, no RabbitMQ."""

from __future__ import annotations

import errno
import json
import os
import pickle
import pkgutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from miros.event import Event

from miros_cache_net import limits
from miros_cache_net import node as node_module
from miros_cache_net.amqp.link import LinkListener, Publication
from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.cache import Cache
from miros_cache_net.cli.checks.finding import Finding
from miros_cache_net.cli.checks.fleet_checks import check_fleet
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.errors import (
    BrokerUnreachable,
    DirectoryMissing,
    ExchangeConflict,
    PayloadError,
    Reason,
    SettingsError,
)
from miros_cache_net.events import event
from miros_cache_net.fleet import host_side
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.fleet.host_side import HostSide
from miros_cache_net.fleet.links import LinkFactory
from miros_cache_net.fleet.place import document_topology, place_of, request_queue_name, routing_key
from miros_cache_net.host.follower import Follower
from miros_cache_net.node import CacheNode
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.timers import TIMERS
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.snapshot import Snapshot
from miros_cache_net.testing import Fleet, ManualClock, wait_until
from miros_cache_net.wire import keyring
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing
from tests.descriptors import NewDescriptors


@pytest.fixture
def broker(hosts: Fleet) -> MemoryBroker:
    assert isinstance(hosts.broker, MemoryBroker)
    return hosts.broker


def test_empty_host_gets_and_publishes_the_fleets_document(hosts: Fleet, recorder: Any) -> None:
    alpha = hosts.add("alpha")
    alpha.write({"addresses": ["10.0.0.1"], "time_out_in_minutes": 30})
    beta = hosts.settings("beta")
    listener = recorder("CACHE")
    node = hosts.add("beta").node
    listener.wait_for(
        lambda events: any(
            e.payload.file_path == str(beta.file) and e.payload.dict.get("addresses") == ["10.0.0.1"] for e in events
        )
    )
    payload = Cache(beta.file).read()
    assert not payload.expired
    assert payload.origin.startswith("alpha-")
    assert node.status()["role"] == "bridge"


def test_answer_to_a_join_says_host_is_connected(hosts: Fleet, recorder: Any) -> None:
    listener = recorder("CACHE")
    hosts.add("alpha")
    listener.wait_for(lambda events: any(e.payload.connected for e in events))


def test_returning_host_is_not_sent_its_own_document(hosts: Fleet, broker: MemoryBroker) -> None:
    alpha = hosts.add("alpha")
    alpha.write({"long": "x" * 100_000})
    beta = hosts.add("beta")
    hosts.agree(on=lambda contents: contents)
    beta.stop()
    before = len(broker.messages)
    again = hosts.add("beta")
    assert sum(len(message.body) for message in broker.messages[before:]) < 10_000
    assert again.node.status()["counters"]["received_unchanged"] == 1


def test_write_by_any_process_arrives_everywhere_once(hosts: Fleet, broker: MemoryBroker) -> None:
    for name in ("alpha", "beta", "gamma"):
        hosts.add(name)
    hosts[2].write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})
    sent = [message for message in broker.messages if message.routing_key.endswith(".CACHE")]
    assert len(sent) == 1


def test_the_age_of_a_document_travels_with_it(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    discovered = alpha.write({"a": 1}).last_modified
    hosts.agree(on=bool)
    assert beta.cache.read().last_modified == discovered
    assert os.stat(beta.cache.path).st_mtime == pytest.approx(discovered)


def test_updates_deletes_and_destroy_reach_every_host(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    alpha.write({"a": 1, "b": 2})
    hosts.agree(on=lambda contents: len(contents) == 2)
    beta.update({"c": 3}, delete=["a"])
    hosts.agree(on=lambda contents: contents == {"b": 2, "c": 3})
    from miros.event import Event

    alpha.node.file_chart.post_fifo(Event(signal="CACHE_DESTROY"))
    hosts.agree(on=lambda contents: contents == {})
    assert beta.cache.read().expired


def test_node_without_broker_serves_and_catches_up(hosts: Fleet, broker: MemoryBroker) -> None:
    broker.refuse(BrokerUnreachable("nobody there"))
    alpha, beta = hosts.add("alpha", wait=False), hosts.add("beta", wait=False)
    alpha.write({"a": 1})
    beta.write({"b": 1})
    wait_until(lambda: alpha.status()["trouble"], what="the trouble to be known")
    assert not alpha.connected
    broker.refuse(None)
    hosts.agree(on=lambda contents: contents == {"b": 1})


def test_writes_on_both_sides_of_cut_are_merged(hosts: Fleet, broker: MemoryBroker) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    alpha.write({"a": 0})
    hosts.agree(on=lambda contents: contents == {"a": 0})
    broker.crash()
    wait_until(lambda: not alpha.connected and not beta.connected, what="both to notice")
    alpha.update({"a": 1})
    beta.update({"b": 2})
    broker.restart()
    hosts.agree(on=lambda contents: contents == {"a": 1, "b": 2})


def test_a_lost_broadcast_is_repaired_by_the_digests(hosts: Fleet, broker: MemoryBroker) -> None:
    for name in ("alpha", "beta"):
        hosts.add(name, digest_interval_s=0.2)
    broker.drop_next(1)
    hosts[0].write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})


def test_broker_problem_is_told_once_and_in_status(hosts: Fleet, broker: MemoryBroker, recorder: Any) -> None:
    errors = recorder("CACHE_ERROR")
    broker.refuse(ExchangeConflict("the exchange is there with another type: delete it"))
    alpha = hosts.add("alpha", wait=False)
    errors.wait_for(lambda events: any(e.payload.reason == "broker" for e in events))
    assert "another type" in alpha.status()["trouble"]
    alpha.write({"still": "works"})
    assert alpha.read() == {"still": "works"}


def test_second_node_follows_and_takes_over(hosts: Fleet, broker: MemoryBroker) -> None:
    first = hosts.add("alpha")
    second = hosts.add("alpha", wait=False)
    wait_until(lambda: second.connected, what="the follower to know that its host is connected")
    assert [first.status()["role"], second.status()["role"]] == ["bridge", "follower"]
    beta = hosts.add("beta")
    second.write({"by": "follower"})
    hosts.agree(on=lambda contents: contents == {"by": "follower"})
    first.stop()
    wait_until(lambda: second.status()["role"] == "bridge" and second.connected, what="the takeover")
    beta.write({"by": "beta"})
    hosts.agree(on=lambda contents: contents == {"by": "beta"})


def test_another_key_is_another_fleet_and_says_so(hosts: Fleet, broker: MemoryBroker, tmp_path: Path) -> None:
    alpha = hosts.add("alpha")
    with Fleet(tmp_path / "others", broker, exchange=alpha.settings.exchange) as others:
        stranger = others.add("stranger", answer_timeout_s=0.1, wait=False)
        stranger.write({"from": "stranger"})
        wait_until(lambda: alpha.status()["counters"].get("refused_not_authentic"), what="the refusal")
    assert alpha.read() == {}


def test_host_without_the_right_key_says_so_everywhere(hosts: Fleet, broker: MemoryBroker, tmp_path: Path) -> None:
    alpha = hosts.add("alpha")
    wait_until(lambda: servers(hosts, broker) == 1, what="alpha to serve")
    with Fleet(tmp_path / "others", broker, exchange=alpha.settings.exchange) as others:
        processes = [others.add("stranger", answer_timeout_s=0.1, wait=False) for _ in range(2)]
        wait_until(lambda: all(host.connected for host in processes), what="the strangers to ask in vain")
        alpha.write({"by": "alpha"})
        for host in processes:
            wait_until(
                lambda host=host: "a key that this host does not have" in host.status()["trouble"],
                what="the trouble",
            )
        processes[1].write({"still": "works"})
        assert processes[0].read() == {"still": "works"}
    assert alpha.connected


def test_earlier_posts_over_link_put_nobody_in_step(hosts: Fleet, broker: MemoryBroker) -> None:
    settings = hosts.settings("alpha")
    silent = MemoryLink(broker, document_topology(place_of(settings, settings.file)), connection_name="silent")
    silent.serve_requests(True)
    silent.start(Mute())
    wait_until(lambda: servers(hosts, broker) == 1, what="somebody who never answers")
    beta = hosts.add("beta", answer_timeout_s=60, wait=False)
    wait_until(lambda: beta.status()["broker"], what="the link")
    beta.node.post_always(event("joined"))
    beta.node.fleet_status(timeout_s=0.1)  # is answered by the chart after what was posted before
    assert not beta.connected
    silent.stop()


class Mute:
    def link_up(self, up: Any) -> None: ...

    def link_down(self, error: Any) -> None: ...

    def delivered(self, delivery: Any) -> None: ...


def attack(hosts: Fleet, broker: MemoryBroker, *bodies: bytes) -> None:
    place = hosts.add("target", wait=False).node.place
    before = len(broker.messages)
    link = MemoryLink(broker, document_topology(place), connection_name="attacker")

    class Attacking(Mute):
        def link_up(self, up: Any) -> None:
            for body in bodies:
                link.publish(Publication(body, place.exchange, routing_key(place, "CACHE")))

    link.start(Attacking())
    wait_until(lambda: len(broker.messages) >= before + len(bodies), what="the attack")
    link.stop()


def test_malformed_messages_are_counted_and_change_nothing(hosts: Fleet, broker: MemoryBroker) -> None:
    target = hosts.add("target")
    target.write({"a": 1})
    before = target.cache.read().version
    attack(hosts, broker, b"", b"garbage", pickle.dumps(("10.0.0.1", "x")), b"x" * (25 * 1024 * 1024))
    counted = target.node.status
    wait_until(lambda: sum(n for k, n in counted()["counters"].items() if k.startswith("refused")) >= 4, what="counts")
    assert counted()["counters"]["refused_too_large"] == 1
    assert target.cache.read().version == before
    hosts.add("beta")
    hosts.agree(on=lambda contents: contents == {"a": 1})


@pytest.mark.parametrize(("scope", "document"), [("other", "cache.json"), ("fleet", "other.json")])
def test_message_for_another_document_or_scope_is_refused(
    hosts: Fleet, broker: MemoryBroker, scope: str, document: str
) -> None:
    target = hosts.add("target")
    ring = KeyRing.from_keys([hosts.key])
    gate = Gate(lambda: ring, scope=scope, document=document, node="beta", host="beta")
    attack(hosts, broker, gate.seal("CACHE", {"a": 1}).body)
    wait_until(lambda: target.status()["counters"].get("refused_wrong_place"), what="the refusal")
    assert target.read() == {}


def test_node_without_key_refuses_and_names_the_command(tmp_path: Path) -> None:
    settings = Settings(file=str(tmp_path / "c.json"), keys_file=str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="key new"):
        CacheNode(settings=settings)


def test_failed_construction_of_a_node_leaves_no_descriptor(hosts: Fleet) -> None:
    settings = hosts.settings("alpha")
    descriptors = NewDescriptors()
    for _ in range(3):
        with pytest.raises(PayloadError):
            CacheNode(settings=settings, default_json="no JSON")
    assert descriptors.links() == []


def test_node_connects_while_its_file_is_being_made(
    hosts: Fleet, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting = threading.Event()

    class Link(MemoryLink):
        def start(self, listener: LinkListener) -> None:
            super().start(listener)
            connecting.set()

    load, waits = FileStore.load, list[bool]()

    def slow_load(store: FileStore) -> Snapshot:
        waits.append(connecting.wait(10))
        return load(store)

    monkeypatch.setattr(FileStore, "load", slow_load)
    settings = hosts.settings("alpha")
    node = CacheNode(settings=settings, link_factory=lambda _settings, place: Link(broker, document_topology(place)))
    wait_until(lambda: node.connected, what="the join")
    node.stop()
    assert all(waits)


def test_watch_begins_with_what_the_follower_has_heard(tmp_path: Path) -> None:
    file, looks = tmp_path / "cache.json", list[None]()
    bridge, follower = (HostSide(Owner(), file, ["fleet"], Registry()) for _ in range(2))
    assert bridge.start()
    bridge.serve()
    assert not follower.start()
    follower.watch(file, lambda: looks.append(None))
    assert looks
    follower.stop()
    bridge.stop()


class Owner:
    def bridge_event(self, name: str, payload: Any = None) -> None: ...

    def report(self, reason: Reason, message: str) -> None: ...


def test_node_in_a_missing_directory_says_so(hosts: Fleet) -> None:
    settings = hosts.settings("alpha", file=str(hosts.settings("alpha").file.parent / "nowhere" / "c.json"))
    with pytest.raises(DirectoryMissing):
        CacheNode(settings=settings)


def test_a_node_asks_the_fleet_whatever_its_role(hosts: Fleet) -> None:
    bridge, follower = hosts.add("alpha"), hosts.add("alpha")
    other = hosts.add("beta")
    other.write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})
    for node in (bridge.node, follower.node):
        document = node.read_fleet()
        assert document is not None
        assert document.contents == {"a": 1}
        names = [status["node"].rsplit("-", 1)[0] for status in node.fleet_status()]
        assert names == ["alpha", "beta"]
    assert bridge.node.status()["counters"]["followers"] == 1


def test_node_alone_in_its_fleet_lists_itself(hosts: Fleet) -> None:
    alpha = hosts.add("alpha")
    alpha.write({"a": 1})
    assert alpha.node.read_fleet(timeout_s=60.0) is None
    assert alpha.status()["counters"]["received_own_request"] == limits.OWN_REQUESTS
    assert [status["role"] for status in alpha.node.fleet_status(timeout_s=0.3)] == ["bridge"]


def test_fleet_question_without_broker_names_the_problem(hosts: Fleet, broker: MemoryBroker) -> None:
    broker.refuse(BrokerUnreachable("nobody there, start it"))
    bridge = hosts.add("alpha", wait=False).node
    follower = hosts.add("alpha", wait=False).node
    wait_until(lambda: follower.status()["trouble"], what="the trouble to be known")
    for node in (bridge, follower):
        with pytest.raises(BrokerUnreachable, match="start it"):
            node.read_fleet(timeout_s=2.0)
        with pytest.raises(BrokerUnreachable, match="start it"):
            node.fleet_status(timeout_s=2.0)


def servers(hosts: Fleet, broker: MemoryBroker) -> int:
    """How many hosts take the requests of those who join."""
    settings = hosts.settings("alpha")
    return broker.consumers(request_queue_name(place_of(settings, settings.file)))


@pytest.mark.parametrize("off_ms", [3_600_000, -3_600_000], ids=["ahead", "behind"])
def test_host_with_wrong_clock_serves_like_any_other(hosts: Fleet, broker: MemoryBroker, off_ms: int) -> None:
    right = hosts.add("right")
    right.write({"a": 1})
    wrong = hosts.add("wrong", clock=ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms() + off_ms))
    wait_until(lambda: wrong.read() == {"a": 1}, what="the document")
    wait_until(lambda: servers(hosts, broker) == 2, what="both to answer")
    right.update({"b": 2})
    hosts.agree(on=lambda contents: contents == {"a": 1, "b": 2})


def test_clock_ahead_troubles_every_host_that_hears_it(hosts: Fleet, recorder: Any) -> None:
    errors = recorder("CACHE_ERROR")
    right = hosts.add("right")
    ahead = hosts.add("ahead", clock=ManualClock(wall_ms=SYSTEM_CLOCK.wall_ms() + 3_600_000))
    ahead.node.file_chart.post_fifo(event("CACHE_FILE_WRITE", {"a": 1}))
    hosts.agree(on=lambda contents: contents == {"a": 1})
    errors.wait_for(lambda events: any(e.payload.reason == "clock" for e in events))
    wait_until(lambda: "ahead of this one's" in right.node.status()["trouble"], what="the trouble")
    assert right.node.status()["trouble"].startswith("ahead-")


def test_bridge_without_broker_hears_of_changes_by_others(hosts: Fleet, broker: MemoryBroker, recorder: Any) -> None:
    broker.crash()
    node, listener = hosts.add("alpha", wait=False).node, recorder("CACHE")
    node.file_chart.path.write_text('{"a": 1}')
    listener.wait_for(lambda events: any(e.payload.dict == {"a": 1} for e in events))


def test_flood_does_not_end_a_bridges_file_watch(hosts: Fleet, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    flooded, go_on = threading.Event(), threading.Event()
    take = CacheNode._bridging_CACHE

    def _bridging_CACHE(node: CacheNode, e: Event) -> int:
        flooded.set()
        assert go_on.wait(30)
        return take(node, e)

    monkeypatch.setattr(CacheNode, "_bridging_CACHE", _bridging_CACHE)
    monkeypatch.setattr(node_module, "WATCH_AFTER_S", 1.0)
    node, listener = hosts.add("alpha", wait=False).node, recorder("CACHE")
    node.post_fifo(event("CACHE"))
    assert flooded.wait(30)
    while not node.refused_events:
        node.post_fifo(event("CACHE"))
    due = threading.Event()
    TIMERS.schedule(2 * node_module.WATCH_AFTER_S, lambda _timer: due.set())
    assert due.wait(30)
    go_on.set()
    node.file_chart.path.write_text('{"a": 1}')
    listener.wait_for(lambda events: any(e.payload.dict == {"a": 1} for e in events if e.payload))


def test_bridge_serves_the_host_before_its_slow_start(hosts: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, really = threading.Event(), keyring.open_ring

    def open_slowly(settings: Settings) -> Any:
        assert go_on.wait(30)
        return really(settings)

    monkeypatch.setattr(keyring, "open_ring", open_slowly)
    bridge = hosts.add("alpha", wait=False).node
    hosts.add("alpha", wait=False)
    try:
        wait_until(lambda: bridge.status()["counters"]["followers"] == 1, what="a follower at the socket")
    finally:
        go_on.set()
    wait_until(lambda: bridge.connected, what="the join")


def test_node_that_could_not_follow_still_takes_over(hosts: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hosts.add("alpha").node

    def no_descriptor(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(host_side, "Follower", no_descriptor)
        second = hosts.add("alpha", wait=False).node
    first.stop()
    wait_until(lambda: second.connected, what="the takeover")


def not_at_first(granted: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """Stands in for what the system refuses twice before it grants it."""
    refusals = iter([error, error])

    def refuse(*args: Any, **more: Any) -> Any:
        for each in refusals:
            raise each
        return granted(*args, **more)

    return refuse


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EMFILE, "Too many open files"), ImportError("_rust.so"), RuntimeError("can't start new thread")],
    ids=["descriptors", "modules", "threads"],
)
@pytest.mark.parametrize("place", ["miros_cache_net.wire.keyring.open_ring", "miros_cache_net.fleet.bridge.Bridge"])
def test_failed_bridge_is_made_as_soon_as_possible(
    hosts: Fleet, recorder: Any, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    module, name = place.rsplit(".", 1)
    monkeypatch.setattr(place, not_at_first(getattr(sys.modules[module], name), error))
    listener = recorder("CACHE_ERROR")
    alpha = hosts.add("alpha", wait=False)
    told = wait_until(lambda: alpha.node.status()["trouble"], what="the trouble to be told")
    assert "no link to the fleet" in told and "ulimit" in told
    wait_until(lambda: alpha.node.connected, what="the join")
    assert alpha.node.status()["trouble"] == ""
    assert [e.payload.reason for e in listener.events] == [Reason.IO]


@pytest.mark.parametrize("method", ["__init__", "start"])
def test_who_cannot_follow_at_first_follows_soon(
    hosts: Fleet, recorder: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    first = hosts.add("alpha")
    refused = not_at_first(getattr(Follower, method), OSError(errno.EMFILE, "Too many open files"))
    monkeypatch.setattr(Follower, method, refused)
    second = hosts.add("alpha", wait=False).node
    wait_until(lambda: second.status()["trouble"], what="the trouble to be told")
    wait_until(lambda: second.connected and not second.status()["trouble"], what="it to follow")
    listener = recorder("CACHE")
    first.update({"news": 1})
    listener.wait_for(lambda events: sum("news" in e.payload.dict for e in events) >= 2)


@pytest.mark.parametrize(
    ("place", "error", "lacks"),
    [
        ("host.socket.selectors.DefaultSelector", OSError(errno.EMFILE, "Too many open files"), "has no socket"),
        ("host.socket.HostServer.start", RuntimeError("can't start new thread"), "has no socket"),
        ("mesh.interpreter.Interpreter", ImportError("_rust.so"), "takes no part in the mesh"),
    ],
    ids=["socket", "thread", "mesh"],
)
def test_what_a_bridge_is_denied_comes_soon_and_holds_up_nothing(
    hosts: Fleet, recorder: Any, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception, lacks: str
) -> None:
    module, name = f"miros_cache_net.{place}".rsplit(".", 1)
    owner = pkgutil.resolve_name(module)
    monkeypatch.setattr(owner, name, not_at_first(getattr(owner, name), error))
    listener = recorder("CACHE_ERROR")
    alpha = hosts.add("alpha", mesh=place.startswith("mesh"))

    def told() -> int:
        return sum(lacks in e.payload.message for e in listener.events)

    wait_until(told, what="it to be told")
    before = alpha.node.status()["version"]
    Cache(hosts.settings("alpha").file).update({"from": "another program"})
    wait_until(lambda: alpha.node.status()["version"] != before, what="the change to be seen")
    wait_until(lambda: lacks not in alpha.node.status()["trouble"], what="what was denied")
    second = hosts.add("alpha").node
    wait_until(lambda: second.connected and second.status()["role"] == "follower", what="another process to follow")
    assert told() == 1


def test_unwatchable_file_is_watched_as_soon_as_possible(hosts: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = not_at_first(host_side.FileWatch, RuntimeError("can't start new thread"))
    monkeypatch.setattr(host_side, "FileWatch", refused)
    alpha = hosts.add("alpha")
    wait_until(lambda: "others write" in alpha.node.status()["trouble"], what="the trouble to be told")
    wait_until(lambda: alpha.node.status()["trouble"] == "", what="the watch")
    before = alpha.node.status()["version"]
    Cache(hosts.settings("alpha").file).update({"from": "another program"})
    wait_until(lambda: alpha.node.status()["version"] != before, what="the change to be seen")


def test_watch_that_begins_during_stop_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beginning, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    class SlowWatch:
        def __init__(self, *_: Any) -> None:
            beginning.set()
            assert go_on.wait(30)

        def close(self) -> None:
            closed.set()

    monkeypatch.setattr(host_side, "FileWatch", SlowWatch)
    side = HostSide(Owner(), tmp_path / "cache.json", ["fleet"], Registry())
    assert side.start()
    watching = threading.Thread(target=side.watch_file)
    watching.start()
    assert beginning.wait(30)
    side.stop()
    go_on.set()
    assert closed.wait(30)
    watching.join()


def test_lost_link_is_published_by_bridge_and_follower(hosts: Fleet, broker: MemoryBroker, recorder: Any) -> None:
    bridge, follower = hosts.add("alpha").node, hosts.add("alpha").node
    listener = recorder("CACHE")
    broker.crash()
    wait_until(lambda: not bridge.connected and not follower.connected, what="both to notice")
    listener.wait_for(lambda events: sum(not e.payload.connected for e in events) >= 2)


@pytest.fixture
def link(broker: MemoryBroker) -> LinkFactory:
    """To the broker of the hosts, for whoever is no host."""
    return lambda _settings, place: MemoryLink(broker, document_topology(place))


def test_asking_the_fleet_from_outside(hosts: Fleet, link: LinkFactory) -> None:
    for name in ("alpha", "beta"):
        hosts.add(name)
    hosts.add("gamma", wait=False).write({"a": 1})
    settings = hosts.settings("alpha")

    with FleetClient(settings, link_factory=link) as client:
        wait_until(lambda: (found := client.fleet.document()) and found.contents == {"a": 1}, what="the document")
        statuses = client.fleet.statuses()
    assert [status["node"].rsplit("-", 1)[0] for status in statuses] == ["alpha", "beta", "gamma"]
    assert hosts.key not in json.dumps(statuses)


def test_doctor_names_the_host_whose_clock_is_ahead(hosts: Fleet, link: LinkFactory) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")

    def findings() -> dict[str, Finding]:
        settings = hosts.settings("alpha")
        found, _ = check_fleet(settings, Path(settings.file), link)
        return {finding.check: finding for finding in found}

    assert {finding.outcome for finding in findings().values()} == {"ok"}
    beta.skew(3600)
    beta.write({"a": 1})
    hosts.agree(alpha, beta, on=lambda contents: contents == {"a": 1})
    found = findings()
    assert [check for check, finding in found.items() if finding.outcome != "ok"] == ["clocks"]
    assert "that of beta-" in found["clocks"].detail and "3600 s ahead of this machine's" in found["clocks"].detail
    assert "chrony" in found["clocks"].fix


def test_unreadable_file_has_no_version(hosts: Fleet) -> None:
    alpha = hosts.add("alpha")
    alpha.write({"a": 1})
    assert alpha.node.status()["version"]
    alpha.node.file_chart.path.write_text('{"_miros_cache_net": {"format": 999}}')
    assert alpha.node.status()["version"] == ""


def test_nobody_to_ask_is_no_document(hosts: Fleet, link: LinkFactory) -> None:
    with FleetClient(hosts.settings("alpha"), link_factory=link) as client:
        assert client.fleet.document(timeout_s=0.5) is None
        assert client.fleet.statuses(timeout_s=0.2) == []


def test_the_states_show_in_the_trace(hosts: Fleet) -> None:
    bridge, follower = hosts.add("alpha").node, hosts.add("alpha").node
    steps = ("top->following", "following->unlinked", "unlinked->joining", "joining->in_sync")
    wait_until(lambda: all(step in bridge.trace() for step in steps), what="the bridge's steps")
    assert "top->following" in follower.trace()


def test_secrets_are_in_no_status_and_no_repr(hosts: Fleet) -> None:
    node = hosts.add("alpha").node
    shown = f"{node.status()} {node.settings!r} {node!r}"
    assert hosts.key not in shown
