"""The bridge between its owner and a link that only writes down what is published."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.amqp.link import FirstQuestion, LinkListener, LinkUp, Place, Publication
from miros_cache_net.document import Document, Stamp
from miros_cache_net.errors import BrokerUnreachable, Reason
from miros_cache_net.fleet.bridge import Bridge
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.settings import Settings
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire.keyring import generate_key, open_ring


class Link:
    def __init__(self) -> None:
        self.published: list[Publication] = []
        self.serves = False

    def start(self, listener: LinkListener, first_question: FirstQuestion = lambda: None) -> None: ...

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
    """Keeps what is posted to it, as a chart's queue does."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []

    def bridge_event(self, name: str, payload: Any = None) -> None:
        self.posted.append((name, payload))

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        return lambda: None

    def merge(self, document: Document) -> None: ...

    def restamp(self, after: Stamp) -> None: ...

    def report(self, reason: Reason, message: str) -> None: ...

    def status(self) -> dict[str, Any]:
        return {}

    def pass_on(self, bridge: Bridge) -> None:
        """What the chart does with what was posted to it."""
        waiting, self.posted = self.posted, []
        for name, payload in waiting:
            if name == "publication_done":
                bridge.publication_done(payload)


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bridge(owner: Owner, link: Link, clock: ManualClock, tmp_path: Path) -> Bridge:
    settings = Settings(keys=generate_key().decode(), file=str(tmp_path / "cache.json"))
    return Bridge(
        owner,
        settings,
        Place("x", "fleet", "cache.json"),
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
    up = LinkUp("amq.gen-1", 0, "RabbitMQ 4")
    bridge.local_changed(Document.unwritten({}).written({"n": 1}, Stamp(clock.wall_ms(), 0, "alpha"), clock.wall_ms()))
    bridge.is_linked(up)
    bridge.is_unlinked(BrokerUnreachable("gone"))
    bridge.is_linked(up)
    first, second = (publication.done for publication in link.documents)
    assert first is not None and second is not None
    first(True)
    second(False)
    owner.pass_on(bridge)
    assert bridge.counters()["sendings_lost"] == 1
    bridge.timer_due(Replica.DIGEST_TIMER)
    assert len(link.documents) == 3
