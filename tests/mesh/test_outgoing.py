"""What waits for a broker: bounded, in order, and sent again when it was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.link import Publication
from miros_cache_net.errors import MessageRefused, Unroutable
from miros_cache_net.mesh.outgoing import LISTENERS_S, Backlog, Outbox, Outgoing, published
from miros_cache_net.observe.families import NET_MESSAGES
from miros_cache_net.observe.registry import Registry
from miros_cache_net.testing import wait_until


class Link:
    """Keeps what it is given; the test settles it."""

    def __init__(self) -> None:
        self.given: list[Publication] = []

    def publish(self, publication: Publication) -> None:
        self.given.append(publication)

    def settle(self, taken: bool) -> None:
        given, self.given = self.given, []
        for each in given:
            assert each.done is not None
            each.done(taken)

    @property
    def bodies(self) -> list[bytes]:
        return [each.body for each in self.given]


class Rig:
    def __init__(self, longest_s: float = 300.0) -> None:
        self.link, self.now_s, self.woken = Link(), 0.0, 0
        self.counted = Registry().labelled(NET_MESSAGES, "mesh")
        link: Any = self.link
        self.box = Outbox(link, self._seal, self._wake, lambda: self.now_s, longest_s, self.counted)
        self._sequence = 0

    def _seal(self, item: Outgoing) -> Publication:
        if item.text == "unsendable":
            raise ValueError("too long")
        return published(self.box, item, item.text.encode(), "e", "k")

    def _wake(self) -> None:
        self.woken += 1

    def put(self, *texts: str) -> None:
        for text in texts:
            self._sequence += 1
            self.box.put(Outgoing(text, self._sequence, str(self._sequence), self.now_s))

    def up_and_heard(self) -> None:
        """The link stands, and a first message has reached a listener."""
        self.box.up()
        self.put("first")
        self.box.pump()
        self.link.settle(True)

    def nobody_listens(self) -> None:
        """The broker returns what it was given."""
        for each in self.link.given:
            assert each.refused is not None and each.mandatory
            each.refused(Unroutable("no queue"))
        self.link.settle(False)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_is_sent_before_the_link_stands_waits_for_it(rig: Rig) -> None:
    rig.put("a", "b")
    rig.box.pump()
    assert not rig.link.given and rig.box.waiting == 2
    rig.box.up()
    rig.box.pump()
    assert rig.woken and rig.link.bodies == [b"a"] and rig.link.given[0].mandatory, "somebody may not listen yet"
    rig.link.settle(True)
    rig.box.pump()
    assert rig.link.bodies == [b"b"] and not rig.link.given[0].mandatory
    rig.link.settle(True)
    assert rig.counted.counts() == {"sent": 2} and rig.box.waiting == 0


def test_beyond_the_bound_the_oldest_gives_way_and_is_counted(rig: Rig) -> None:
    rig.put(*map(str, range(limits.MESH_OUTBOX_EVENTS + 3)))
    assert rig.counted.counts()["dropped"] == 3 and rig.box.waiting == limits.MESH_OUTBOX_EVENTS
    rig.box.up()
    rig.box.pump()
    assert rig.link.bodies[0] == b"3"


def test_large_ones_are_bounded_by_their_bytes(rig: Rig) -> None:
    large = "x" * (limits.MESH_OUTBOX_BYTES // 2)
    rig.put(large, large, large)
    assert rig.box.waiting == 2 and rig.counted.counts()["dropped"] == 1


def test_no_more_than_a_window_is_with_the_link(rig: Rig) -> None:
    rig.up_and_heard()
    rig.put(*map(str, range(limits.MESH_IN_FLIGHT + 10)))
    rig.box.pump()
    assert len(rig.link.given) == limits.MESH_IN_FLIGHT
    rig.link.settle(True)
    rig.box.pump()
    assert len(rig.link.given) == 10


def test_messages_lost_with_a_link_are_resent_first(rig: Rig) -> None:
    rig.up_and_heard()
    rig.put("a", "b", "c")
    rig.box.pump()
    rig.box.down()
    rig.put("d")
    rig.link.settle(False)
    rig.box.pump()
    assert not rig.link.given
    rig.box.up()
    rig.box.pump()
    again = list(rig.link.given)
    rig.link.settle(True)
    rig.box.pump()
    again += rig.link.given
    assert [each.body for each in again] == [b"a", b"b", b"c", b"d"]
    assert [each.message_id for each in again] == ["2", "3", "4", "5"], "a receiver that has one knows it again"


def test_what_waits_longer_than_anybody_would_take_it_is_dropped(rig: Rig) -> None:
    rig.put("old")
    rig.now_s = 301.0
    rig.put("young")
    rig.box.up()
    rig.box.pump()
    assert rig.link.bodies == [b"young"] and rig.counted.counts()["dropped"] == 1


def test_what_the_broker_refuses_is_not_sent_again(rig: Rig) -> None:
    rig.box.up()
    rig.put("a")
    rig.box.pump()
    refused: Callable[[MessageRefused], None] | None = rig.link.given[0].refused
    assert refused is not None
    refused(MessageRefused("too large for this broker"))
    rig.link.settle(False)
    rig.box.pump()
    assert not rig.link.given and rig.box.waiting == 0 and rig.counted.counts()["refused"] == 1


def test_one_that_cannot_be_sealed_keeps_no_other(rig: Rig) -> None:
    rig.box.up()
    rig.put("unsendable", "a")
    rig.box.pump()
    assert rig.link.bodies == [b"a"] and rig.counted.counts()["unsendable"] == 1


def test_what_nobody_listens_to_yet_waits_for_a_listener(rig: Rig) -> None:
    rig.put("a", "b")
    rig.box.up()
    rig.box.pump()
    rig.nobody_listens()
    woken = rig.woken
    wait_until(lambda: rig.woken > woken, what="the next look")
    rig.box.pump()
    assert rig.link.bodies == [b"a"] and rig.box.waiting == 2
    rig.link.settle(True)
    rig.box.pump()
    assert rig.link.bodies == [b"b"]


def test_a_listener_is_not_waited_for_for_ever(rig: Rig) -> None:
    rig.put("a", "b")
    rig.box.up()
    rig.box.pump()
    rig.now_s = LISTENERS_S
    rig.nobody_listens()
    rig.box.pump()
    assert rig.link.bodies == [b"a", b"b"] and not any(each.mandatory for each in rig.link.given)


def test_what_waits_at_the_end_goes_whoever_listens(rig: Rig) -> None:
    rig.put("a", "b", "c")
    rig.box.up()
    rig.box.pump()
    rig.box.look_no_more()
    rig.box.pump()
    assert rig.link.bodies == [b"a", b"b", b"c"]


def test_early_messages_are_bounded_by_number_and_bytes() -> None:
    backlog = Backlog()
    large = "x" * (limits.MESH_OUTBOX_BYTES // 2)
    for number, text in enumerate([large, large, large]):
        backlog.append(Outgoing(text, number, "", 0.0))
    assert [each.sequence for each in backlog] == [1, 2]
    for number in range(limits.MESH_OUTBOX_EVENTS + 1):
        backlog.append(Outgoing("", number, "", 0.0))
    assert len(list(backlog)) == limits.MESH_OUTBOX_EVENTS
