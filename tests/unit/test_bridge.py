"""The bridge between its owner and a link that only writes down what is published."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, LinkListener, LinkUp, Place, Publication
from miros_cache_net.amqp.topology import routing_key
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import BrokerUnreachable, Reason
from miros_cache_net.fleet.bridge import Bridge
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.settings import Settings
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing, RingProvider, generate_key, open_ring
from miros_cache_net.wire.kinds import KINDS, REQUESTS


class Link:
    def __init__(self) -> None:
        self.published: list[Publication] = []
        self.serves = False

    def start(self, listener: LinkListener) -> None: ...

    def publish(self, publication: Publication) -> None:
        self.published.append(publication)

    def serve_requests(self, serve: bool) -> None:
        self.serves = serve

    def acquire_lease(self, done: Callable[[bool], None]) -> None: ...

    def release_lease(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def documents(self) -> list[Publication]:
        return [each for each in self.published if each.kind == "CACHE"]


class Owner:
    """Keeps what is posted to it, as a chart's queue does; `told` are the names of all of it."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.told: list[str] = []

    def bridge_event(self, name: str, payload: Any = None) -> None:
        self.posted.append((name, payload))
        self.told.append(name)

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        return lambda: None

    def merge(self, document: Document, node: str) -> None: ...

    def report(self, reason: Reason, message: str) -> None: ...

    def status(self) -> dict[str, Any]:
        return {}

    def pass_on(self, bridge: Bridge) -> None:
        """What the chart does with what was posted to it."""
        waiting, self.posted = self.posted, []
        for name, payload in waiting:
            if name == "publication_done":
                bridge.publication_done(payload)
            elif name == "key_refused":
                bridge.key_refused()
            elif name == "messages_waiting":
                bridge.take_messages()


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
def bridge(owner: Owner, link: Link, clock: ManualClock, settings: Settings) -> Bridge:
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
    )


def test_a_confirm_that_comes_late_is_not_taken_for_that_of_the_next_document(
    bridge: Bridge, owner: Owner, link: Link, clock: ManualClock
) -> None:
    bridge.local_changed(Document.unwritten({}).written({"n": 1}, Stamp(clock.wall_ms(), 0, "alpha"), clock.wall_ms()))
    alone(bridge)
    bridge.is_unlinked(BrokerUnreachable("gone"))
    alone(bridge)
    first, second = (publication.done for publication in link.documents)
    assert first is not None and second is not None
    first(True)
    second(False)
    owner.pass_on(bridge)
    assert bridge.counters()["sendings_lost"] == 1
    bridge.timer_due(Replica.DIGEST_TIMER)
    assert len(link.documents) == 3


def alone(bridge: Bridge) -> None:
    bridge.is_linked(UP)
    for _ in range(limits.JOIN_ATTEMPTS):
        bridge.timer_due(Replica.ANSWER_TIMER)


@pytest.fixture
def hears(bridge: Bridge, owner: Owner, clock: ManualClock) -> Callable[[RingProvider, str], str]:
    """Has the bridge hear a message of that kind, closed with that ring; what its trouble is then."""

    def hear(ring: RingProvider, kind: str) -> str:
        gate = Gate(ring, scope=PLACE.scope, document=PLACE.document, node="beta", host="beta", clock=clock)
        bridge.delivered(Delivery(gate.seal(kind).body, routing_key(PLACE, kind)))
        owner.pass_on(bridge)
        return bridge.trouble

    return hear


def linked(bridge: Bridge) -> None:
    bridge.link_up(UP)
    bridge.is_linked(UP)


def test_a_host_that_hears_only_another_key_says_so_until_it_hears_its_own(
    bridge: Bridge, settings: Settings, hears: Callable[[RingProvider, str], str]
) -> None:
    ours, theirs = open_ring(settings), lambda: KeyRing.from_keys([generate_key()])
    linked(bridge)
    assert "in a key that this host does not hold" in hears(theirs, "digest")
    # what commands of this very host may ask proves nothing
    assert hears(ours, "status_request") and hears(ours, "CACHE_FILE_READ")
    assert hears(ours, "digest") == ""
    assert hears(theirs, "digest") == "", "strangers and stragglers are no trouble of this host"
    linked(bridge)
    assert hears(theirs, "digest") != ""
    linked(bridge)
    assert hears(ours, "digest") == "" and hears(theirs, "digest") == ""


def test_what_came_over_a_link_that_is_lost_says_nothing_of_why(
    bridge: Bridge, settings: Settings, hears: Callable[[RingProvider, str], str]
) -> None:
    ours, theirs = open_ring(settings), lambda: KeyRing.from_keys([generate_key()])
    linked(bridge)
    bridge.is_unlinked(BrokerUnreachable("gone"))
    assert hears(theirs, "digest") == hears(ours, "digest") == "gone"


def test_a_host_that_hears_only_another_key_is_told_of_it_once_a_link(
    bridge: Bridge, owner: Owner, hears: Callable[[RingProvider, str], str]
) -> None:
    linked(bridge)
    owner.told.clear()
    for _ in range(100):
        hears(lambda: KeyRing.from_keys([generate_key()]), "CACHE")
    assert owner.told == ["key_refused"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_message_is_taken_and_every_request_answered_as_the_table_says(
    bridge: Bridge, owner: Owner, link: Link, clock: ManualClock, settings: Settings, kind: str
) -> None:
    ring = open_ring(settings)
    theirs = Gate(ring, scope=PLACE.scope, document=PLACE.document, node="beta", host="beta", clock=clock)
    alone(bridge)
    link.published.clear()
    request = theirs.seal(kind)
    bridge.delivered(Delivery(request.body, routing_key(PLACE, kind), "amq.gen-x"))
    assert bridge.counters()[f"received_{kind}"] == 1
    owner.pass_on(bridge)
    answers = [theirs.open(each.body) for each in link.published]
    if kind in REQUESTS:
        (answer,) = answers
        assert answer.kind in KINDS[kind].answered_by
        assert answer.answers == request.message_id
        assert link.published[0].queue == "amq.gen-x"
    else:
        assert answers == []
