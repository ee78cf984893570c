"""Being in step: what an answer counts for, and how hosts join that cannot ask by the request queue."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.testing import ManualClock
from tests.replicas import NOTHING, Port, answer, digest, in_sync, message, replica, unchanged, written


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def joining(port: Port, clock: ManualClock, document: Document = NOTHING, servers: int | None = None) -> Replica:
    host = replica(port, clock, document)
    host.link_up(servers)
    return host


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", ["", "id-99", "their-id"])
def test_an_answer_without_a_question_is_state_and_no_join(port: Port, clock: ManualClock, answers: str) -> None:
    host = joining(port, clock, servers=1)
    old = written(clock, {"a": 1})
    host.received(answer(port, old, answers), "")
    assert port.merged == [old]
    host.local_changed(old)
    host.received(unchanged(port, old.version, answers), "")
    assert not host.in_step
    host.received(answer(port, old), "")
    assert host.in_step


def test_a_question_that_is_answered_is_open_no_more(port: Port, clock: ManualClock) -> None:
    requests = OpenRequests()
    host = Replica(
        port, NOTHING, clock, requests, answer_timeout_s=1.0, digest_interval_s=30.0, rng=random.Random(1)
    )  # fmt: skip
    host.link_up(1)
    asked = port.ids[-1]
    assert requests.about(asked, Document) is NOTHING
    host.received(answer(port, NOTHING), "")
    assert requests.about(asked, Document) is None


def test_of_many_open_questions_the_oldest_give_way() -> None:
    requests = OpenRequests()
    for number in range(limits.OPEN_REQUESTS + 1):
        requests.add(f"id-{number}", "read")
    assert requests.about("id-0", str) is None
    assert all(requests.about(f"id-{number}", str) == "read" for number in range(1, limits.OPEN_REQUESTS + 1))


def test_the_answer_to_each_of_several_questions_counts(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock, servers=1)
    early = port.ids[-1]
    host.timer(Replica.ANSWER_TIMER)
    host.received(answer(port, NOTHING, early), "")
    assert host.in_step


def test_an_answer_that_is_no_document_is_none(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock, servers=1)
    host.received(message("answer", {"no": "document"}, answers=port.ids[-1]), "")
    assert not host.in_step
    host.received(answer(port, NOTHING), "")
    assert host.in_step


def test_unchanged_means_what_was_held_when_that_very_question_was_asked(port: Port, clock: ManualClock) -> None:
    first = written(clock, {"a": 1})
    host = joining(port, clock, first, servers=1)
    early = port.ids[-1]
    second = first.updated({"b": 1}, (), Stamp(clock.wall_ms(), 1, "alpha"), clock.wall_ms())
    host.local_changed(second)
    host.timer(Replica.ANSWER_TIMER)
    host.received(unchanged(port, second.version, early), "")
    assert not host.in_step
    host.received(unchanged(port, first.version, early), "")
    assert host.in_step


def test_what_is_answered_names_the_question(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = in_sync(port, clock, held)
    port.answered.clear()
    host.received(message("CACHE_FILE_READ"), "amq.gen-x")
    host.received(message("CACHE_FILE_READ", {"version": held.version}), "amq.gen-x")
    assert port.answered == ["their-id"] * 2


def test_a_flood_of_questions_is_answered_within_a_rate(port: Port, clock: ManualClock) -> None:
    large = written(clock, {"a": "x" * 1024 * 1024})
    host = in_sync(port, clock, large)
    for _ in range(1000):
        host.received(message("CACHE_FILE_READ"), "amq.gen-x")
    at_once = limits.ANSWER_BYTES_AT_ONCE // (1024 * 1024)
    assert at_once <= len(port.sent) <= at_once + 1
    assert host.answers_refused == 1000 - len(port.sent)
    clock.advance(1.0)
    port.sent.clear()
    for _ in range(1000):
        host.received(message("CACHE_FILE_READ"), "amq.gen-x")
    assert len(port.sent) == pytest.approx(limits.ANSWER_BYTES_PER_S / (1024 * 1024), abs=2)


def test_a_question_of_any_age_is_answered(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    for sent_ms in (0, clock.wall_ms() - 3_600_000, clock.wall_ms() + 3_600_000):
        host.received(message("CACHE_FILE_READ", sent_ms=sent_ms), "amq.gen-x")
    assert port.sent_kinds() == [("answer", "amq.gen-x")] * 3


# --- where the request queue cannot be had --------------------------------------------------------


def test_a_joining_digest_is_answered_by_one_that_names_it(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = in_sync(port, clock, held)
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    assert port.sent == [] and port.timers[Replica.JOINER_TIMER] <= limits.JOIN_DIGEST_S
    host.timer(Replica.JOINER_TIMER)
    assert port.sent == [("digest", digest(held, answers=["their-id"]), EVERYBODY)]
    host.timer(Replica.JOINER_TIMER)
    assert len(port.sent) == 1


def test_who_hears_another_answer_a_joining_host_keeps_quiet(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = in_sync(port, clock, held)
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    host.received(message("digest", digest(held, answers=["their-id"]), "gamma"), "amq.gen-y")
    host.timer(Replica.JOINER_TIMER)
    assert port.sent == []


def test_whose_document_is_another_answers_all_the_same(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, written(clock, {"a": 1}))
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    host.received(message("digest", digest(NOTHING, answers=["their-id"]), "gamma"), "amq.gen-y")
    host.timer(Replica.JOINER_TIMER)
    assert ("digest", EVERYBODY) in port.sent_kinds()


def test_joining_hosts_answer_each_other_later_than_one_in_step_would(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock)
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    assert port.timers[Replica.JOINER_TIMER] >= 2 * limits.JOIN_DIGEST_S
    host.timer(Replica.JOINER_TIMER)
    assert port.sent[-1] == ("digest", digest(NOTHING, answers=["their-id"]), EVERYBODY)


def test_an_agreeing_digest_that_names_the_question_completes_the_join(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = joining(port, clock, held)
    host.received(message("digest", digest(held)), "amq.gen-x")
    host.received(message("digest", digest(held, answers=["id-99"])), "amq.gen-x")
    assert not host.in_step
    host.received(message("digest", digest(held, answers=["id-99", port.ids[-1]])), "amq.gen-x")
    assert host.in_step


def test_what_came_in_since_the_question_may_be_what_the_answer_agrees_with(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock)
    theirs = written(clock, {"a": 1})
    host.received(message("CACHE", theirs.to_json()), "")
    host.local_changed(theirs)
    host.received(message("digest", digest(theirs, answers=[port.ids[-1]])), "amq.gen-x")
    assert host.in_step


@pytest.mark.parametrize("age_ms", [-1, 1], ids=["older", "newer"])
def test_who_holds_something_else_is_asked_for_it(port: Port, clock: ManualClock, age_ms: int) -> None:
    host = joining(port, clock, written(clock, {"mine": 1}, node="alpha"))
    asked = port.ids[-1]
    theirs = written(clock, {"a": 1}, ahead_ms=age_ms)
    host.received(message("digest", digest(theirs, answers=[asked])), "amq.gen-x")
    assert port.sent_kinds()[-1] == ("CACHE_FILE_READ", "amq.gen-x")
    # however long the document is on its way, within 5 s this host takes part
    assert port.timers[Replica.ANSWER_TIMER] == 2.0
    host.received(answer(port, theirs), "")
    merged = host.document.merged(theirs)
    host.local_changed(merged)
    assert host.in_step


def test_a_read_that_is_not_answered_in_time_makes_a_host_alone(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock)
    host.received(message("digest", digest(written(clock, {"a": 1}), answers=[port.ids[-1]])), "amq.gen-x")
    host.timer(Replica.ANSWER_TIMER)
    assert host.in_step
    assert port.sent_kinds().count(("CACHE_FILE_READ", ANY_PEER)) == 0


def test_ids_without_end_are_answered_up_to_the_bound(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    for number in range(10 * limits.JOINERS_ANSWERED):
        asked = message("digest", digest(NOTHING, joining=True))
        host.received(replace(asked, message_id=f"joiner-{number}"), "amq.gen-x")
    host.timer(Replica.JOINER_TIMER)
    ((_, body, _),) = port.sent
    assert len(body["answers"]) == limits.JOINERS_ANSWERED


def test_a_joiner_whose_request_is_lost_asks_everybody_at_once() -> None:
    port = Port()
    host = replica(port, ManualClock(), Document.unwritten({}))
    host.link_up(1)
    host.request_lost()
    host.request_lost()
    assert [kind for kind, _ in port.sent_kinds()] == ["CACHE_FILE_READ", "digest"]
