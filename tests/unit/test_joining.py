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
from miros_cache_net.observe.registry import Counter
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
def test_answer_without_a_question_is_no_join(port: Port, clock: ManualClock, answers: str) -> None:
    host = joining(port, clock, servers=1)
    old = written(clock, {"a": 1})
    host.received(answer(port, old, answers), "")
    assert port.merged == [old]
    host.local_changed(old)
    host.received(unchanged(port, old.version, answers), "")
    assert not host.in_step
    host.received(answer(port, old), "")
    assert host.in_step


def test_answered_question_is_open_no_more(port: Port, clock: ManualClock) -> None:
    requests = OpenRequests()
    host = Replica(
        port, NOTHING, clock, requests, answer_timeout_s=1.0, digest_interval_s=30.0, rng=random.Random(1),
        answers_refused=Counter(),
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
    host.timers[Replica.ANSWER_TIMER]()
    host.received(answer(port, NOTHING, early), "")
    assert host.in_step


def test_an_answer_that_is_no_document_is_none(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock, servers=1)
    host.received(message("answer", {"no": "document"}, answers=port.ids[-1]), "")
    assert not host.in_step
    host.received(answer(port, NOTHING), "")
    assert host.in_step


def test_unchanged_means_what_that_very_question_held(port: Port, clock: ManualClock) -> None:
    first = written(clock, {"a": 1})
    host = joining(port, clock, first, servers=1)
    early = port.ids[-1]
    second = first.updated({"b": 1}, (), Stamp(clock.wall_ms(), 1, "alpha"), clock.wall_ms())
    host.local_changed(second)
    host.timers[Replica.ANSWER_TIMER]()
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


def test_flood_of_questions_is_answered_within_a_rate(port: Port, clock: ManualClock) -> None:
    large = written(clock, {"a": "x" * 1024 * 1024})
    refused = Counter()
    host = in_sync(port, clock, large, refused)
    for _ in range(1000):
        host.received(message("CACHE_FILE_READ"), "amq.gen-x")
    at_once = limits.ANSWER_BYTES_AT_ONCE // (1024 * 1024)
    assert at_once <= len(port.sent) <= at_once + 1
    assert refused.value == 1000 - len(port.sent)
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


def test_joining_digest_is_answered_by_name(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = in_sync(port, clock, held)
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    assert port.sent == [] and port.timers[Replica.JOINER_TIMER] <= limits.JOIN_DIGEST_S
    host.timers[Replica.JOINER_TIMER]()
    assert port.sent == [("digest", digest(held, answers=["their-id"]), EVERYBODY)]
    host.timers[Replica.JOINER_TIMER]()
    assert len(port.sent) == 1


def test_answer_of_another_keeps_a_host_quiet(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = in_sync(port, clock, held)
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    host.received(message("digest", digest(held, answers=["their-id"]), "gamma"), "amq.gen-y")
    host.timers[Replica.JOINER_TIMER]()
    assert port.sent == []


def test_whose_document_is_another_answers_all_the_same(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, written(clock, {"a": 1}))
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    host.received(message("digest", digest(NOTHING, answers=["their-id"]), "gamma"), "amq.gen-y")
    host.timers[Replica.JOINER_TIMER]()
    assert ("digest", EVERYBODY) in port.sent_kinds()


def test_joining_hosts_answer_each_other_later(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock)
    host.received(message("digest", digest(NOTHING, joining=True)), "amq.gen-x")
    assert port.timers[Replica.JOINER_TIMER] >= 2 * limits.JOIN_DIGEST_S
    host.timers[Replica.JOINER_TIMER]()
    assert port.sent[-1] == ("digest", digest(NOTHING, answers=["their-id"]), EVERYBODY)


def test_agreeing_digest_that_names_question_completes_join(port: Port, clock: ManualClock) -> None:
    held = written(clock, {"a": 1})
    host = joining(port, clock, held)
    host.received(message("digest", digest(held)), "amq.gen-x")
    host.received(message("digest", digest(held, answers=["id-99"])), "amq.gen-x")
    assert not host.in_step
    host.received(message("digest", digest(held, answers=["id-99", port.ids[-1]])), "amq.gen-x")
    assert host.in_step


def test_answer_may_agree_with_what_came_since(port: Port, clock: ManualClock) -> None:
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


def test_unanswered_read_makes_a_host_alone(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock)
    host.received(message("digest", digest(written(clock, {"a": 1}), answers=[port.ids[-1]])), "amq.gen-x")
    host.timers[Replica.ANSWER_TIMER]()
    assert host.in_step
    assert port.sent_kinds().count(("CACHE_FILE_READ", ANY_PEER)) == 0


def test_first_answer_completes_a_join_amid_writes(port: Port, clock: ManualClock) -> None:
    """Each answer is newer than what the file holds by then."""
    host = joining(port, clock)
    first = written(clock, {"a": 0})
    host.received(message("digest", digest(first, answers=[port.ids[-1]])), "amq.gen-x")
    host.received(answer(port, first), "")
    newer = first.updated({"a": 1}, (), Stamp(clock.wall_ms(), 1, "beta"), clock.wall_ms())
    host.received(message("digest", digest(newer)), "amq.gen-y")
    host.received(answer(port, newer), "")
    host.local_changed(first)
    assert host.in_step


def test_continued_answers_delay_a_join_once(port: Port, clock: ManualClock) -> None:
    host = joining(port, clock)
    host.received(message("digest", digest(written(clock, {"a": 0}), answers=[port.ids[-1]])), "amq.gen-x")
    host.received(answer(port, written(clock, {"a": 1})), "")
    del port.timers[Replica.ANSWER_TIMER]
    for number in range(2, 5):
        theirs = written(clock, {"a": number}, ahead_ms=number)
        host.received(message("digest", digest(theirs)), "amq.gen-x")
        host.received(answer(port, theirs), "")
    assert Replica.ANSWER_TIMER not in port.timers
    host.timers[Replica.ANSWER_TIMER]()
    assert host.in_sync


def ask_as_crowd(host: Replica, count: int) -> None:
    for number in range(count):
        asked = message("digest", digest(NOTHING, joining=True))
        host.received(replace(asked, message_id=f"joiner-{number}"), "amq.gen-x")


def test_only_the_first_of_a_crowd_are_answered(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock)
    ask_as_crowd(host, 10 * limits.JOIN_CROWD)
    host.timers[Replica.JOINER_TIMER]()
    ((_, body, _),) = port.sent
    assert body["answers"] == [f"joiner-{number}" for number in range(limits.JOIN_CROWD)]
    ask_as_crowd(host, 1)
    clock.advance(limits.JOIN_CROWD_S)
    ask_as_crowd(host, 1)
    host.timers[Replica.JOINER_TIMER]()
    assert [body["answers"] for _, body, _ in port.sent[1:]] == [["joiner-0"]]


def test_crowd_of_an_earlier_link_does_not_count(port: Port, clock: ManualClock) -> None:
    host = replica(port, clock)
    ask_as_crowd(host, limits.JOIN_CROWD)
    host.link_down()
    host.link_up(request_servers=0)
    assert [kind for kind, _ in port.sent_kinds()] == ["digest"]


def test_joiner_in_a_crowd_does_not_ask(port: Port, clock: ManualClock) -> None:
    host = replica(port, clock)
    ask_as_crowd(host, limits.JOIN_CROWD)
    host.link_up(request_servers=0)
    assert port.sent == []
    for _ in range(limits.JOIN_ATTEMPTS):
        host.timers[Replica.ANSWER_TIMER]()
    assert host.in_sync, "like one that nobody answers"


def test_joiner_with_a_lost_request_asks_everybody() -> None:
    port = Port()
    host = replica(port, ManualClock(), Document.unwritten({}))
    host.link_up(1)
    host.request_lost()
    host.request_lost()
    assert [kind for kind, _ in port.sent_kinds()] == ["CACHE_FILE_READ", "digest"]
