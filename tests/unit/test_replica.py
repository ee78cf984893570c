"""The replica's rules, one host at a time, behind a port that only writes down what is asked of it."""

from __future__ import annotations

from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import Reason
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.testing import ManualClock
from tests.replicas import NOTHING, Port, answer, digest, in_sync, join, message, replica, unchanged, written


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("servers", [0, None])
def test_who_finds_nobody_at_the_queue_asks_everybody_and_is_alone_in_the_end(
    port: Port, clock: ManualClock, servers: int | None
) -> None:
    alone = replica(port, clock)
    alone.link_up(servers)
    for _ in range(limits.JOIN_ATTEMPTS):
        assert not alone.in_step and not port.serving
        alone.timer(Replica.ANSWER_TIMER)
    assert alone.in_step and port.serving
    assert port.sent == [("digest", digest(NOTHING, joining=True), EVERYBODY)] * limits.JOIN_ATTEMPTS


def test_a_joining_host_asks_one_peer_and_serves_only_after_the_answer(port: Port, clock: ManualClock) -> None:
    joining = replica(port, clock)
    joining.link_up(request_servers=3)
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]
    assert not port.serving
    theirs = written(clock, {"a": 1})
    joining.received(answer(port, theirs), "")
    assert port.merged == [theirs]
    assert not port.serving
    joining.local_changed(theirs)
    assert joining.in_step
    assert port.serving


def test_an_answer_before_the_link_stands_is_taken_in_and_is_no_join(port: Port, clock: ManualClock) -> None:
    looking = replica(port, clock)
    theirs = written(clock, {"a": 1})
    looking.received(message("answer", theirs.to_json()), "")
    assert port.merged == [theirs]
    looking.local_changed(theirs)
    assert not looking.in_sync and not port.serving and port.sent == []
    looking.link_up(request_servers=1)
    assert not looking.in_sync
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]
    younger = theirs.updated({"b": 2}, (), Stamp(clock.wall_ms(), 1, "beta"), clock.wall_ms())
    looking.received(answer(port, younger), "")
    looking.local_changed(younger)
    assert looking.in_sync


def test_a_file_that_cannot_take_the_answer_in_keeps_the_host_out_for_a_while_only(
    port: Port, clock: ManualClock
) -> None:
    joining = replica(port, clock)
    joining.link_up(request_servers=1)
    theirs = written(clock, {"a": 1})
    joining.received(answer(port, theirs), "")
    joining.timer(Replica.ANSWER_TIMER)
    assert joining.in_sync and not joining.in_step
    joining.received(message("CACHE_FILE_READ"), "amq.gen-x")
    assert port.sent[-1] == ("answer", theirs.to_json(), "amq.gen-x")
    joining.local_changed(theirs)
    assert joining.in_step


def test_who_is_not_answered_asks_again_of_everybody_too_and_is_alone_in_the_end(
    port: Port, clock: ManualClock
) -> None:
    joining = replica(port, clock)
    joining.link_up(request_servers=1)
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]
    for _ in range(limits.JOIN_ATTEMPTS - 1):
        joining.timer(Replica.ANSWER_TIMER)
        assert port.sent_kinds()[-2:] == [("CACHE_FILE_READ", ANY_PEER), ("digest", EVERYBODY)]
    assert not joining.in_step
    joining.timer(Replica.ANSWER_TIMER)
    assert joining.in_step


def test_a_late_timer_after_the_answer_asks_nobody(port: Port, clock: ManualClock) -> None:
    joining = replica(port, clock)
    joining.link_up(request_servers=1)
    joining.received(answer(port, NOTHING), "")
    joining.timer(Replica.ANSWER_TIMER)
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]


def asking(port: Port, clock: ManualClock, document: Document) -> Replica:
    """A host that has just asked for what it may lack."""
    host = replica(port, clock, document)
    host.link_up(request_servers=1)
    return host


def test_who_holds_a_document_asks_only_for_another(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    asking(port, clock, held)
    assert port.sent == [("CACHE_FILE_READ", {"version": held.version}, ANY_PEER)]
    port.sent.clear()
    asking(port, clock, Document.unwritten({"mine": 1}))
    assert port.sent == [("CACHE_FILE_READ", None, ANY_PEER)]


def test_who_is_asked_for_another_document_than_its_own_sends_it_and_else_says_so(
    port: Port, clock: ManualClock
) -> None:
    held = written(clock, {"a": 1})
    asked = in_sync(port, clock, held)
    port.sent.clear()
    for body in ({"version": held.version}, {"version": "another"}, {"version": [held.version]}, {}, held.version):
        asked.received(message("CACHE_FILE_READ", body), "amq.gen-x")
    assert port.sent_kinds() == [("unchanged", "amq.gen-x")] + [("answer", "amq.gen-x")] * 4
    assert port.sent[0][1] == {"version": held.version}


def test_a_host_that_holds_what_the_fleet_holds_is_in_sync_and_sends_nothing(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = asking(port, clock, held)
    host.received(unchanged(port, held.version), "")
    assert host.in_sync and port.serving
    assert port.merged == []
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]


def test_what_was_written_since_it_asked_is_sent_by_a_host_that_held_the_same(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = asking(port, clock, held)
    younger = held.updated({"b": 2}, (), Stamp(clock.wall_ms(), 1, "alpha"), clock.wall_ms())
    host.local_changed(younger)
    host.received(unchanged(port, held.version), "")
    assert host.in_sync
    assert port.sent[-1] == ("CACHE", younger.to_json(), EVERYBODY)


@pytest.mark.parametrize("body", [None, {}, {"version": "another"}, {"version": None}, "another"])
def test_that_another_document_is_unchanged_is_no_answer(port: Port, clock: ManualClock, body: Any) -> None:
    host = asking(port, clock, written(clock, {"a": 1}))
    host.received(message("unchanged", body, answers=port.ids[-1]), "")
    assert not host.in_sync


def test_nobody_is_told_that_a_document_which_nobody_wrote_is_unchanged(port: Port, clock: ManualClock) -> None:
    host = asking(port, clock, NOTHING)
    host.received(unchanged(port, NOTHING.version), "")
    asked = in_sync(port, clock, NOTHING)
    asked.received(message("CACHE_FILE_READ", {"version": NOTHING.version}), "amq.gen-x")
    assert port.sent[-1] == ("answer", NOTHING.to_json(), "amq.gen-x")


def test_a_host_is_in_sync_once_its_file_holds_what_it_asked_with(port: Port, clock: ManualClock) -> None:
    looking = replica(port, clock)
    theirs = written(clock, {"a": 1})
    looking.received(message("answer", theirs.to_json()), "")
    looking.link_up(request_servers=1)
    assert port.sent == [("CACHE_FILE_READ", {"version": theirs.version}, ANY_PEER)]
    looking.received(unchanged(port, theirs.version), "")
    assert not looking.in_sync
    looking.local_changed(theirs)
    assert looking.in_sync
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]


def test_what_the_file_failed_to_take_in_is_merged_again_when_a_peer_holds_the_same(
    port: Port, clock: ManualClock
) -> None:
    host = in_sync(port, clock)
    theirs = written(clock, {"a": 1})
    host.received(message("CACHE", theirs.to_json()), "")  # the disk is full at this moment
    host.received(message("digest", digest(theirs)), "amq.gen-x")
    assert port.sent[-1] == ("CACHE_FILE_READ", {"version": theirs.version}, "amq.gen-x")
    host.received(unchanged(port, theirs.version), "")
    assert port.merged == [theirs, theirs]


def test_an_answer_to_what_was_asked_over_a_lost_link_counts_no_more(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = asking(port, clock, held)
    before = port.ids[-1]
    host.link_down()
    host.link_up(request_servers=1)
    host.received(unchanged(port, held.version, before), "")
    host.received(answer(port, held, before), "")
    assert not host.in_step
    host.received(unchanged(port, held.version), "")
    assert host.in_step


def test_a_local_write_is_sent_once_to_everybody(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    mine = written(clock, {"a": 1}, node="alpha")
    host.local_changed(mine)
    host.sent(confirmed=True)
    host.local_changed(mine)
    assert port.sent == [("CACHE", mine.to_json(), EVERYBODY)]


def test_what_came_from_the_fleet_is_merged_and_not_sent_on(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    theirs = written(clock, {"a": 1})
    host.received(message("CACHE", theirs.to_json()), "")
    assert port.merged == [theirs]
    host.local_changed(theirs)
    assert port.sent == []
    host.received(message("CACHE", theirs.to_json()), "")
    assert port.merged == [theirs]


def test_a_remote_programs_write_is_taken_like_a_cache(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    theirs = written(clock, {"a": 1})
    host.received(message("CACHE_FILE_WRITE", theirs.to_json()), "")
    assert port.merged == [theirs]


def test_a_burst_while_one_is_on_its_way_becomes_one_more(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    document = NOTHING
    for number in range(100):
        document = document.written({"n": number}, Stamp(clock.wall_ms(), number, "alpha"), clock.wall_ms())
        host.local_changed(document)
    host.sent(confirmed=True)
    assert [body["n"] for _, body, _ in port.sent] == [0, 99]


def test_writes_that_go_on_and_on_are_sent_now_and_then_and_the_last_one_for_sure(
    port: Port, clock: ManualClock
) -> None:
    host, document = in_sync(port, clock), NOTHING
    for number in range(2000):
        document = document.written({"n": number}, Stamp(clock.wall_ms(), number, "alpha"), clock.wall_ms())
        before = len(port.sent)
        host.local_changed(document)
        if len(port.sent) > before:
            host.sent(confirmed=True)
        clock.advance(0.001)
        if number % 50 == 49 and port.timers.pop(Replica.SPREAD_TIMER, None) is not None:
            host.timer(Replica.SPREAD_TIMER)
            host.sent(confirmed=True)
    sent = [body["n"] for _, body, _ in port.sent]
    assert sent[: limits.SPREAD_AT_ONCE] == list(range(limits.SPREAD_AT_ONCE))
    assert len(sent) <= limits.SPREAD_AT_ONCE + 2 / limits.SPREAD_MOST_S + 10
    clock.advance(1.0)
    host.timer(Replica.SPREAD_TIMER)
    assert port.sent[-1][1]["n"] == 1999


def test_what_was_held_back_when_the_link_was_lost_goes_out_after_the_next_join(port: Port, clock: ManualClock) -> None:
    host, document = in_sync(port, clock), NOTHING
    for number in range(limits.SPREAD_AT_ONCE + 1):
        document = document.written({"n": number}, Stamp(clock.wall_ms(), number, "alpha"), clock.wall_ms())
        host.local_changed(document)
        host.sent(confirmed=True)
    assert port.sent[-1][1]["n"] == limits.SPREAD_AT_ONCE - 1
    host.link_down()
    clock.advance(1.0)
    host.timer(Replica.SPREAD_TIMER)
    join(host)
    assert port.sent[-1][1]["n"] == limits.SPREAD_AT_ONCE


def test_a_lost_publication_is_sent_again(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    mine = written(clock, {"a": 1}, node="alpha")
    host.local_changed(mine)
    host.sent(confirmed=False)
    assert Replica.DIGEST_TIMER in port.timers
    host.timer(Replica.DIGEST_TIMER)
    assert port.sent_kinds().count(("CACHE", EVERYBODY)) == 2


def test_writes_made_without_a_link_are_sent_after_joining(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    host.link_down()
    assert not port.serving
    mine = written(clock, {"a": 1}, node="alpha")
    host.local_changed(mine)
    assert port.sent == []
    host.link_up(request_servers=1)
    host.received(answer(port, NOTHING), "")
    assert ("CACHE", mine.to_json(), EVERYBODY) in port.sent


def test_after_a_lost_link_nothing_counts_as_known_any_more(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    mine = written(clock, {"a": 1}, node="alpha")
    host.local_changed(mine)
    host.sent(confirmed=True)
    host.link_down()
    join(host)
    assert port.sent_kinds().count(("CACHE", EVERYBODY)) == 2


def test_a_document_nobody_wrote_is_neither_sent_nor_taken(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, Document.unwritten({"mine": 1}))
    host.local_changed(Document.unwritten({"mine": 2}))
    host.received(message("CACHE", Document.unwritten({"theirs": 1}).to_json()), "")
    assert port.sent == []
    assert port.merged == []


def test_a_request_is_answered_to_the_askers_queue(port: Port, clock: ManualClock) -> None:
    mine = written(clock, {"a": 1}, node="alpha")
    host = in_sync(port, clock, mine)
    host.received(message("CACHE_FILE_READ"), "amq.gen-x")
    assert port.sent == [("answer", mine.to_json(), "amq.gen-x")]


def test_a_request_without_a_queue_to_answer_to_is_ignored(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    host.received(message("CACHE_FILE_READ"), "")
    assert port.sent == []


def test_who_hears_a_newer_digest_asks_its_sender(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, written(clock, {"a": 1}))
    port.sent.clear()
    host.received(message("digest", digest(written(clock, {"a": 2}, ahead_ms=1))), "amq.gen-x")
    assert port.sent_kinds() == [("CACHE_FILE_READ", "amq.gen-x")]


def test_who_hears_an_older_or_equal_digest_does_not_ask(port: Port, clock: ManualClock) -> None:
    mine = written(clock, {"a": 1})
    host = in_sync(port, clock, mine)
    port.sent.clear()
    host.received(message("digest", digest(mine)), "amq.gen-x")
    host.received(message("digest", digest(written(clock, {"a": 0}, ahead_ms=-1))), "amq.gen-x")
    assert port.sent == []


def test_two_hosts_that_never_had_a_document_agree_whatever_their_defaults(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, Document.unwritten({"a": 1}))
    host.received(message("digest", digest(Document.unwritten({"b": 1}))), "amq.gen-x")
    assert port.sent == []


@pytest.mark.parametrize("body", [None, 1, [], {}, {"version": 1, "newest": []}, {"newest": "x" * 100}])
def test_a_digest_that_is_none_breaks_nothing(port: Port, clock: ManualClock, body: Any) -> None:
    host = in_sync(port, clock)
    host.received(message("digest", body), "amq.gen-x")
    assert all(kind == "CACHE_FILE_READ" for kind, _, _ in port.sent)


@pytest.mark.parametrize("body", [None, 1, [], {}, {"_miros_cache_net": {}}])
def test_a_body_that_is_no_document_is_reported_and_changes_nothing(port: Port, clock: ManualClock, body: Any) -> None:
    host = in_sync(port, clock)
    host.received(message("CACHE", body), "")
    assert port.merged == []
    assert port.reports == [Reason.WIRE]
