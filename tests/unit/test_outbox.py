"""The outbox: bounded by messages and bytes, and every `done` is called."""

from __future__ import annotations

from miros_cache_net.amqp.link import Publication
from miros_cache_net.amqp.outbox import Outbox


def publication(size: int = 1, results: list[bool] | None = None) -> Publication:
    return Publication(b"x" * size, "x", "CACHE", done=None if results is None else results.append)


def test_first_hand_over_alone_asks_for_wake_up() -> None:
    outbox = Outbox()
    assert [outbox.hand_over(publication()) for _ in range(3)] == [True, False, False]
    outbox.awake()
    assert outbox.hand_over(publication())


def test_publications_come_out_in_order() -> None:
    outbox = Outbox()
    sent = [publication(size) for size in range(1, 5)]
    for one in sent:
        outbox.hand_over(one)
    assert [outbox.take() for _ in range(5)] == [*sent, None]


def test_publication_beyond_the_number_is_refused() -> None:
    outbox, refused = Outbox(messages=2), list[bool]()
    for _ in range(3):
        outbox.hand_over(publication(results=refused))
    done = outbox.refused()
    assert done is not None and outbox.refused() is None
    first = outbox.take()
    outbox.hand_over(publication(results=refused))
    assert outbox.refused() is not None, "taken is not settled: an unconfirmed one still counts"
    assert first is not None
    outbox.settle(first)
    outbox.hand_over(publication())
    assert outbox.refused() is None
    assert outbox.unsettled == 2


def test_publication_beyond_the_bytes_is_refused() -> None:
    outbox, results = Outbox(message_bytes=10), list[bool]()
    large = publication(100, results)
    outbox.hand_over(large)
    assert outbox.refused() is None
    outbox.hand_over(publication(1, results))
    assert outbox.refused() is not None
    assert outbox.take() is large
    outbox.settle(large)
    outbox.hand_over(publication(10, results))
    outbox.hand_over(publication(1, results))
    assert outbox.refused() is not None
    assert outbox.refused() is None


def test_closed_outbox_tells_the_loss_at_once() -> None:
    outbox, results = Outbox(), list[bool]()
    outbox.close()
    assert not outbox.hand_over(publication(results=results))
    assert results == [False]
    assert outbox.take() is None


def test_failing_all_tells_waiting_and_refused_ones() -> None:
    outbox, results = Outbox(messages=2), list[bool]()
    for _ in range(3):
        outbox.hand_over(publication(results=results))
    outbox.fail_all()
    assert results == [False, False, False]
    assert outbox.unsettled == 0
