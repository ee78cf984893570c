"""The bridge between its owner and a link that only writes down what is published."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, LinkListener, LinkUp, Publication
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import BrokerUnreachable, MessageRefused, Reason
from miros_cache_net.fleet import node_events
from miros_cache_net.fleet.bridge import Bridge
from miros_cache_net.fleet.fleet_lease import LEASE_TIMER, RESULT_UNDER_WAY_S
from miros_cache_net.fleet.place import Place, routing_key
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.host.messages import LEASE
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.node import CacheNode
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.single_flight import discovery_lock_path
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.testing import ManualClock, wait_until
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing, RingProvider, generate_key, open_ring
from miros_cache_net.wire.kinds import KINDS, REQUESTS


class Link:
    def __init__(self) -> None:
        self.published: list[Publication] = []
        self.serves = False
        self.leases: list[Callable[[bool], None]] = []
        self.released = 0
        self.not_granted: list[OSError] = []
        self.silent_s: float | None = 0.0
        self.alarm = ""

    def start(self, listener: LinkListener) -> None:
        if self.not_granted:
            raise self.not_granted.pop()

    def publish(self, publication: Publication) -> None:
        self.published.append(publication)

    def serve_requests(self, serve: bool) -> None:
        self.serves = serve

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        self.leases.append(done)

    def release_lease(self) -> None:
        self.released += 1

    def stop(self) -> None: ...

    @property
    def documents(self) -> list[Publication]:
        return [each for each in self.published if each.routing_key.endswith(".CACHE")]


class Owner:
    """Keeps what is posted to it, as a chart's queue does; `told` are the names of all of it."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.told: list[str] = []
        self.delays_s: dict[str, float] = {}
        self.in_file: Document | None = Document.unwritten({})

    def bridge_event(self, name: str, payload: Any = None) -> None:
        self.posted.append((name, payload))
        self.told.append(name)

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        self.delays_s[payload] = delay_s
        return lambda: None

    def held(self) -> Document | None:
        return self.in_file

    def merge(self, document: Document, node: str) -> None: ...

    def report(self, reason: Reason, message: str) -> None: ...

    def status(self) -> Any:
        return {}

    def look_at_disk(self, done: Callable[[], None]) -> None:
        done()

    def pass_on(self, bridge: Bridge) -> None:
        """What the chart does with what was posted to it, and what that posts."""
        while self.posted:
            name, payload = self.posted.pop(0)
            if name != node_events.JOINED:
                bridge.handle(name, payload)


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


PLACE, UP = Place("x", "fleet", "cache.json"), LinkUp("amq.gen-1", 0, "RabbitMQ 4")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(keys=generate_key().decode(), file=str(tmp_path / "cache.json"))


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def bridge(owner: Owner, link: Link, clock: ManualClock, settings: Settings, registry: Registry) -> Bridge:
    return Bridge(
        owner,
        settings,
        PLACE,
        file=settings.file,
        node=lambda: "alpha",
        rings=open_ring(settings),
        clock=clock,
        rng=random.Random(1),
        link_factory=lambda _settings, _place: link,
        registry=registry,
    )


def test_late_confirm_does_not_count_for_next_document(
    bridge: Bridge, registry: Registry, owner: Owner, link: Link, clock: ManualClock
) -> None:
    bridge.local_changed(Document.unwritten({}).written({"n": 1}, Stamp(clock.wall_ms(), 0, "alpha"), clock.wall_ms()))
    alone(bridge)
    bridge.handle(node_events.LINK_DOWN, BrokerUnreachable("gone"))
    alone(bridge)
    first, second = (publication.done for publication in link.documents)
    assert first is not None and second is not None
    first(True)
    second(False)
    owner.pass_on(bridge)
    assert registry.flat()["sendings_lost"] == 1
    bridge.handle(node_events.TIMER_DUE, Replica.DIGEST_TIMER)
    assert len(link.documents) == 3


def test_refused_link_start_is_told_once_and_retried(
    bridge: Bridge, registry: Registry, owner: Owner, link: Link
) -> None:
    link.not_granted = [OSError(errno.EMFILE, "Too many open files") for _ in range(2)]
    bridge.start()
    owner.pass_on(bridge)
    assert "ulimit" in bridge.trouble
    for _ in range(2):
        bridge.handle(node_events.TIMER_DUE, "start")
    owner.pass_on(bridge)
    assert not link.not_granted and registry.flat()["links_failed"] == 1
    bridge.handle(node_events.LINK_UP, UP)
    assert not bridge.trouble


@pytest.fixture
def discovered(bridge: Bridge, owner: Owner, link: Link, clock: ManualClock, settings: Settings) -> Publication:
    """What is sent of a discovery that is over; the host has the lease."""
    process = KernelLock(discovery_lock_path(settings.file))
    assert process.try_lock()
    alone(bridge)
    owner.posted.clear()
    answers: list[Answer] = []
    bridge.handle(node_events.FLEET_ASKED, Question(LEASE, clock.monotonic_s() + 60, answers.append))
    link.leases[0](True)
    owner.pass_on(bridge)
    assert answers == [Answer(True)]
    # the lock's keeper may be quicker than what tells of the file
    owner.in_file = Document.unwritten({}).written({"n": 1}, Stamp(clock.wall_ms(), 0, "alpha"), clock.wall_ms())
    process.close()
    wait_until(lambda: node_events.DISCOVERY_OVER in owner.told, what="the end of the discovery")
    owner.pass_on(bridge)
    (sending,) = link.documents
    return sending


def is_done(sending: Publication, taken: bool) -> None:
    assert sending.done is not None
    sending.done(taken)


def test_lease_is_kept_until_broker_has_the_result(
    bridge: Bridge, owner: Owner, link: Link, discovered: Publication
) -> None:
    assert owner.delays_s[LEASE_TIMER] == limits.RESULT_TAKEN_S
    is_done(discovered, False)
    owner.pass_on(bridge)
    assert owner.delays_s[LEASE_TIMER] == limits.RESULT_TAKEN_S
    bridge.handle(node_events.TIMER_DUE, Replica.DIGEST_TIMER)
    is_done(link.documents[-1], True)
    owner.pass_on(bridge)
    assert owner.delays_s[LEASE_TIMER] == RESULT_UNDER_WAY_S
    bridge.handle(node_events.TIMER_DUE, LEASE_TIMER)
    assert link.released == 1


def test_refused_result_keeps_the_lease_no_longer(bridge: Bridge, owner: Owner, discovered: Publication) -> None:
    assert discovered.refused is not None
    discovered.refused(MessageRefused("it is larger than max_message_size"))
    is_done(discovered, False)
    owner.pass_on(bridge)
    assert owner.delays_s[LEASE_TIMER] == RESULT_UNDER_WAY_S


def test_later_writes_do_not_keep_a_discoverys_lease(
    bridge: Bridge, owner: Owner, link: Link, clock: ManualClock, discovered: Publication
) -> None:
    for n in range(2, 5):
        assert owner.in_file is not None
        owner.in_file = owner.in_file.updated({"n": n}, (), Stamp(clock.wall_ms(), n, "alpha"), clock.wall_ms())
        bridge.local_changed(owner.in_file)
    is_done(discovered, True)
    owner.pass_on(bridge)
    assert len(link.documents) == 2
    assert owner.delays_s[LEASE_TIMER] == RESULT_UNDER_WAY_S


def test_unreadable_file_after_discovery_keeps_document_and_lease(
    bridge: Bridge, owner: Owner, link: Link, clock: ManualClock, discovered: Publication
) -> None:
    is_done(discovered, True)
    owner.pass_on(bridge)
    before, owner.in_file = bridge.replica.document, None
    bridge.handle(node_events.FLEET_ASKED, Question(LEASE, clock.monotonic_s() + 60, lambda answer: None))
    wait_until(lambda: owner.told.count(node_events.DISCOVERY_OVER) == 2, what="the end of the discovery")
    owner.pass_on(bridge)
    bridge.handle(node_events.MERGE_REFUSED, (before, "beta"))
    assert bridge.replica.document is before
    assert owner.delays_s[LEASE_TIMER] == limits.RESULT_TAKEN_S, "what it found has not been sent"
    bridge.local_changed(before.written({"n": 2}, Stamp(clock.wall_ms(), 1, "alpha"), clock.wall_ms()))
    is_done(link.documents[-1], True)
    owner.pass_on(bridge)
    assert owner.delays_s[LEASE_TIMER] == RESULT_UNDER_WAY_S


def alone(bridge: Bridge) -> None:
    bridge.handle(node_events.LINK_UP, UP)
    for _ in range(limits.JOIN_ATTEMPTS):
        bridge.handle(node_events.TIMER_DUE, Replica.ANSWER_TIMER)


@pytest.fixture
def hears(bridge: Bridge, owner: Owner, clock: ManualClock) -> Callable[[RingProvider, str], str]:
    """Has the bridge hear a message of that kind, closed with that ring; what its trouble is then."""

    def hear(ring: RingProvider, kind: str) -> str:
        gate = Gate(ring, scope=PLACE.scope, document=PLACE.document, node="beta", host="beta", clock=clock)
        bridge.delivered(Delivery(gate.seal(kind).body, routing_key(PLACE, kind)))
        owner.pass_on(bridge)
        return bridge.trouble

    return hear


def linked(bridge: Bridge, owner: Owner) -> None:
    bridge.link_up(UP)
    owner.pass_on(bridge)


def test_host_that_hears_another_key_says_so(
    bridge: Bridge, owner: Owner, settings: Settings, hears: Callable[[RingProvider, str], str]
) -> None:
    ours, theirs = open_ring(settings), lambda: KeyRing.from_keys([generate_key()])
    linked(bridge, owner)
    assert "with a key that this host does not have" in hears(theirs, "digest")
    # what commands of this very host may ask proves nothing
    assert hears(ours, "status_request") and hears(ours, "CACHE_FILE_READ")
    assert hears(ours, "digest") == ""
    assert hears(theirs, "digest") == "", "strangers and stragglers are no trouble of this host"
    linked(bridge, owner)
    assert hears(theirs, "digest") != ""
    linked(bridge, owner)
    assert hears(ours, "digest") == "" and hears(theirs, "digest") == ""


def test_lost_links_messages_do_not_explain_its_loss(
    bridge: Bridge, owner: Owner, settings: Settings, hears: Callable[[RingProvider, str], str]
) -> None:
    ours, theirs = open_ring(settings), lambda: KeyRing.from_keys([generate_key()])
    linked(bridge, owner)
    bridge.handle(node_events.LINK_DOWN, BrokerUnreachable("gone"))
    assert hears(theirs, "digest") == hears(ours, "digest") == "gone"


def test_foreign_key_is_told_once_a_link(
    bridge: Bridge, owner: Owner, hears: Callable[[RingProvider, str], str]
) -> None:
    linked(bridge, owner)
    owner.told.clear()
    for _ in range(100):
        hears(lambda: KeyRing.from_keys([generate_key()]), "CACHE")
    assert owner.told == ["not_understood"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_handled_as_the_table_says(
    bridge: Bridge, registry: Registry, owner: Owner, link: Link, clock: ManualClock, settings: Settings, kind: str
) -> None:
    ring = open_ring(settings)
    theirs = Gate(ring, scope=PLACE.scope, document=PLACE.document, node="beta", host="beta", clock=clock)
    alone(bridge)
    link.published.clear()
    request = theirs.seal(kind)
    bridge.delivered(Delivery(request.body, routing_key(PLACE, kind), "amq.gen-x"))
    assert registry.flat()[f"received_{kind}"] == 1
    owner.pass_on(bridge)
    answers = [theirs.open(each.body) for each in link.published]
    if kind in REQUESTS:
        (answer,) = answers
        assert answer.kind in KINDS[kind].answered_by
        assert answer.answers == request.message_id
        assert link.published[0].queue == "amq.gen-x"
    else:
        assert answers == []


def test_private_node_events_are_declared_and_handled() -> None:
    declared = {value for name, value in vars(node_events).items() if name.isupper()}
    signals = {signal for state in CacheNode.STATES for signal in state.on}
    assert {signal for signal in signals if signal.islower()} == declared


def failing(bridge: Bridge) -> set[str]:
    return {check.name for check in bridge.checks() if not check.ok}


def test_silent_link_is_a_failed_check(bridge: Bridge, link: Link) -> None:
    assert failing(bridge) == {"link", "in step"}
    alone(bridge)
    assert failing(bridge) == set() and bridge.in_touch
    # a canary flies every 30 s, and may take 10
    link.silent_s = 39.0
    assert failing(bridge) == set()
    link.silent_s = 60.0
    assert failing(bridge) == {"canary"} and not bridge.in_touch


def test_refused_message_is_a_failed_check(bridge: Bridge) -> None:
    alone(bridge)
    bridge.handle(node_events.PUBLICATION_REFUSED, ("CACHE", MessageRefused("it is larger than max_message_size")))
    assert failing(bridge) == {"caps"}


def test_answer_to_our_question_shows_the_true_time(
    bridge: Bridge, owner: Owner, link: Link, clock: ManualClock, settings: Settings
) -> None:
    gate = Gate(open_ring(settings), scope=PLACE.scope, document=PLACE.document, node="beta", host="beta", clock=clock)
    alone(bridge)
    clock.jump_wall(3_600_000)

    def hear(answers: list[str]) -> None:
        clock.jump_wall(-3_600_000)
        digest = gate.seal("digest", {"version": "", "newest": "", "answers": answers})
        clock.jump_wall(3_600_000)
        bridge.delivered(Delivery(digest.body, routing_key(PLACE, "digest")))
        owner.pass_on(bridge)

    hear([])
    assert failing(bridge) == set(), "it may be a replay"
    bridge.handle(node_events.TIMER_DUE, "doubt")
    hear([gate.open(link.published[-1].body).message_id])
    bridge.handle(node_events.TIMER_DUE, "doubt")
    hear([])
    bridge.handle(node_events.TIMER_DUE, "doubt")
    bridge.handle(node_events.TIMER_DUE, "doubt")
    assert failing(bridge) == {"clock"}
