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
def test_host_that_finds_no_server_ends_up_alone(port: Port, clock: ManualClock, servers: int | None) -> None:
    alone = replica(port, clock)
    alone.link_up(servers)
    for _ in range(limits.JOIN_ATTEMPTS):
        assert not alone.in_step and not port.serving
        alone.timers[Replica.ANSWER_TIMER]()
    assert alone.in_step and port.serving
    assert port.sent == [("digest", digest(NOTHING, joining=True), EVERYBODY)] * limits.JOIN_ATTEMPTS


def test_joining_host_serves_only_after_the_answer(port: Port, clock: ManualClock) -> None:
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


@pytest.mark.parametrize(("servers", "least_s", "most_s"), [(1, 0.5, 1.0), (15, 0.5, 1.0), (16, 15.0, 30.0)])
def test_answered_host_of_a_large_fleet_has_no_hurry(
    port: Port, clock: ManualClock, servers: int, least_s: float, most_s: float
) -> None:
    host = replica(port, clock)
    host.link_up(request_servers=servers)
    held = written(clock, {"a": 1})
    host.received(answer(port, held), "")
    host.local_changed(held)
    assert host.in_step
    assert least_s <= port.timers[Replica.DIGEST_TIMER] <= most_s


def test_unanswered_host_of_a_large_fleet_speaks_sooner(port: Port, clock: ManualClock) -> None:
    host = replica(port, clock)
    host.link_up(request_servers=16)
    for _ in range(limits.JOIN_ATTEMPTS):
        host.timers[Replica.ANSWER_TIMER]()
    assert host.in_sync
    assert 4.0 <= port.timers[Replica.DIGEST_TIMER] <= limits.DIGEST_UNANSWERED_S


def test_answer_before_the_link_stands_is_no_join(port: Port, clock: ManualClock) -> None:
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


def test_stuck_file_keeps_the_host_out_briefly(port: Port, clock: ManualClock) -> None:
    joining = replica(port, clock)
    joining.link_up(request_servers=1)
    theirs = written(clock, {"a": 1})
    joining.received(answer(port, theirs), "")
    joining.timers[Replica.ANSWER_TIMER]()
    assert joining.in_sync and not joining.in_step
    joining.received(message("CACHE_FILE_READ"), "amq.gen-x")
    assert port.sent[-1] == ("answer", theirs.to_json(), "amq.gen-x")
    joining.local_changed(theirs)
    assert joining.in_step


def test_unanswered_host_asks_again_and_ends_alone(port: Port, clock: ManualClock) -> None:
    joining = replica(port, clock)
    joining.link_up(request_servers=1)
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]
    for _ in range(limits.JOIN_ATTEMPTS - 1):
        joining.timers[Replica.ANSWER_TIMER]()
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)] * limits.JOIN_ATTEMPTS
    assert not joining.in_step
    joining.timers[Replica.ANSWER_TIMER]()
    assert joining.in_step


def test_a_late_timer_after_the_answer_asks_nobody(port: Port, clock: ManualClock) -> None:
    joining = replica(port, clock)
    joining.link_up(request_servers=1)
    joining.received(answer(port, NOTHING), "")
    joining.timers[Replica.ANSWER_TIMER]()
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


def test_request_is_answered_by_document_or_unchanged(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    asked = in_sync(port, clock, held)
    port.sent.clear()
    for body in ({"version": held.version}, {"version": "another"}, {"version": [held.version]}, {}, held.version):
        asked.received(message("CACHE_FILE_READ", body), "amq.gen-x")
    assert port.sent_kinds() == [("unchanged", "amq.gen-x")] + [("answer", "amq.gen-x")] * 4
    assert port.sent[0][1] == {"version": held.version}


def test_host_that_holds_the_fleets_document_sends_nothing(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = asking(port, clock, held)
    host.received(unchanged(port, held.version), "")
    assert host.in_sync and port.serving
    assert port.merged == []
    assert port.sent_kinds() == [("CACHE_FILE_READ", ANY_PEER)]


def test_write_made_since_the_question_is_sent(port: Port, clock: ManualClock) -> None:
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


def test_unwritten_document_is_never_called_unchanged(port: Port, clock: ManualClock) -> None:
    host = asking(port, clock, NOTHING)
    host.received(unchanged(port, NOTHING.version), "")
    asked = in_sync(port, clock, NOTHING)
    asked.received(message("CACHE_FILE_READ", {"version": NOTHING.version}), "amq.gen-x")
    assert port.sent[-1] == ("answer", NOTHING.to_json(), "amq.gen-x")


def test_host_is_in_sync_once_its_file_is(port: Port, clock: ManualClock) -> None:
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


def test_failed_merge_is_repeated_when_a_peer_agrees(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    theirs = written(clock, {"a": 1})
    host.received(message("CACHE", theirs.to_json()), "")  # the disk is full at this moment
    host.received(message("digest", digest(theirs)), "amq.gen-x")
    assert port.sent[-1] == ("CACHE_FILE_READ", {"version": theirs.version}, "amq.gen-x")
    host.received(unchanged(port, theirs.version), "")
    assert port.merged == [theirs, theirs]


def test_answer_over_a_lost_link_does_not_count(port: Port, clock: ManualClock) -> None:
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


def test_document_of_the_fleet_is_not_sent_on(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    theirs = written(clock, {"a": 1})
    host.received(message("CACHE", theirs.to_json()), "")
    assert port.merged == [theirs]
    host.local_changed(theirs)
    assert port.sent == []
    host.received(message("CACHE", theirs.to_json()), "")
    assert port.merged == [theirs]


def test_write_of_remote_program_counts_like_a_cache(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    theirs = written(clock, {"a": 1})
    host.received(message("CACHE_FILE_WRITE", theirs.to_json()), "")
    assert port.merged == [theirs]


def test_burst_during_one_sending_becomes_one_more(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    document = NOTHING
    for number in range(100):
        document = document.written({"n": number}, Stamp(clock.wall_ms(), number, "alpha"), clock.wall_ms())
        host.local_changed(document)
    host.sent(confirmed=True)
    assert [body["n"] for _, body, _ in port.sent] == [0, 99]


def test_endless_writes_are_thinned_but_last_is_sent(port: Port, clock: ManualClock) -> None:
    host, document = in_sync(port, clock), NOTHING
    for number in range(2000):
        document = document.written({"n": number}, Stamp(clock.wall_ms(), number, "alpha"), clock.wall_ms())
        before = len(port.sent)
        host.local_changed(document)
        if len(port.sent) > before:
            host.sent(confirmed=True)
        clock.advance(0.001)
        if number % 50 == 49 and port.timers.pop(Replica.SPREAD_TIMER, None) is not None:
            host.timers[Replica.SPREAD_TIMER]()
            host.sent(confirmed=True)
    sent = [body["n"] for _, body, _ in port.sent]
    assert sent[: limits.SPREAD_AT_ONCE] == list(range(limits.SPREAD_AT_ONCE))
    assert len(sent) <= limits.SPREAD_AT_ONCE + 2 / limits.SPREAD_MOST_S + 10
    clock.advance(1.0)
    host.timers[Replica.SPREAD_TIMER]()
    assert port.sent[-1][1]["n"] == 1999


def test_held_back_document_goes_out_after_next_join(port: Port, clock: ManualClock) -> None:
    host, document = in_sync(port, clock), NOTHING
    for number in range(limits.SPREAD_AT_ONCE + 1):
        document = document.written({"n": number}, Stamp(clock.wall_ms(), number, "alpha"), clock.wall_ms())
        host.local_changed(document)
        host.sent(confirmed=True)
    assert port.sent[-1][1]["n"] == limits.SPREAD_AT_ONCE - 1
    host.link_down()
    clock.advance(1.0)
    host.timers[Replica.SPREAD_TIMER]()
    join(host)
    assert port.sent[-1][1]["n"] == limits.SPREAD_AT_ONCE


def test_a_lost_publication_is_sent_again(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    mine = written(clock, {"a": 1}, node="alpha")
    host.local_changed(mine)
    host.sent(confirmed=False)
    assert Replica.DIGEST_TIMER in port.timers
    host.timers[Replica.DIGEST_TIMER]()
    assert port.sent_kinds().count(("CACHE", EVERYBODY)) == 2


def test_unsendable_document_keeps_no_other_back(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    first = written(clock, {"n": 1}, node="alpha")
    port.unsendable.append(first.to_json())
    host.local_changed(first)
    host.timers[Replica.DIGEST_TIMER]()
    assert host.has_spread(first), "there is nothing to wait for"
    second = first.updated({"n": 2}, (), Stamp(clock.wall_ms(), 1, "alpha"), clock.wall_ms())
    host.local_changed(second)
    assert port.sent[-1] == ("CACHE", second.to_json(), EVERYBODY)
    assert not host.has_spread(second)


def test_what_the_broker_refuses_counts_as_spread(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    result = written(clock, {"n": 1}, node="alpha")
    host.local_changed(result)
    host.hold_back()
    host.sent(False)
    host.timers[Replica.DIGEST_TIMER]()
    assert host.has_spread(result)
    assert port.sent_kinds().count(("CACHE", EVERYBODY)) == 1


def test_spread_document_does_not_wait_for_later_writes(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    result = written(clock, {"n": 1}, node="alpha")
    host.local_changed(result)
    younger = result.updated({"n": 2}, (), Stamp(clock.wall_ms(), 1, "alpha"), clock.wall_ms())
    host.local_changed(younger)
    assert not host.has_spread(result)
    host.sent(True)
    assert host.has_spread(result) and not host.has_spread(younger)


def test_writes_without_a_link_are_sent_after_joining(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    host.link_down()
    assert not port.serving
    mine = written(clock, {"a": 1}, node="alpha")
    host.local_changed(mine)
    assert port.sent == []
    host.link_up(request_servers=1)
    host.received(answer(port, NOTHING), "")
    assert ("CACHE", mine.to_json(), EVERYBODY) in port.sent


def test_nothing_counts_as_known_after_a_lost_link(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    mine = written(clock, {"a": 1}, node="alpha")
    host.local_changed(mine)
    host.sent(confirmed=True)
    host.link_down()
    join(host)
    assert port.sent_kinds().count(("CACHE", EVERYBODY)) == 2


def test_unwritten_document_is_neither_sent_nor_taken(port: Port, clock: ManualClock) -> None:
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


def test_request_without_a_reply_queue_is_ignored(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    host.received(message("CACHE_FILE_READ"), "")
    assert port.sent == []


def test_who_hears_a_newer_digest_asks_its_sender(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, written(clock, {"a": 1}))
    port.sent.clear()
    host.received(message("digest", digest(written(clock, {"a": 2}, ahead_ms=1))), "amq.gen-x")
    assert port.sent_kinds() == [("CACHE_FILE_READ", "amq.gen-x")]


def test_older_or_equal_digest_brings_no_question(port: Port, clock: ManualClock) -> None:
    mine = written(clock, {"a": 1})
    host = in_sync(port, clock, mine)
    port.sent.clear()
    host.received(message("digest", digest(mine)), "amq.gen-x")
    host.received(message("digest", digest(written(clock, {"a": 0}, ahead_ms=-1))), "amq.gen-x")
    assert port.sent == []


def test_hosts_without_a_document_agree_despite_their_defaults(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, Document.unwritten({"a": 1}))
    host.received(message("digest", digest(Document.unwritten({"b": 1}))), "amq.gen-x")
    assert port.sent == []


@pytest.mark.parametrize("body", [None, 1, [], {}, {"version": 1, "newest": []}, {"newest": "x" * 100}])
def test_a_digest_that_is_none_breaks_nothing(port: Port, clock: ManualClock, body: Any) -> None:
    host = in_sync(port, clock)
    host.received(message("digest", body), "amq.gen-x")
    assert all(kind == "CACHE_FILE_READ" for kind, _, _ in port.sent)


@pytest.mark.parametrize("body", [None, 1, [], {}, {"_miros_cache_net": {}}])
def test_malformed_body_is_reported_and_changes_nothing(port: Port, clock: ManualClock, body: Any) -> None:
    host = in_sync(port, clock)
    host.received(message("CACHE", body), "")
    assert port.merged == []
    assert port.reports == [Reason.WIRE]
