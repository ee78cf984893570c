"""Documents that pass a cap only together: neither host takes the other's in, both say so, and they hardly talk."""

from __future__ import annotations

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.fleet.publications import EVERYBODY
from miros_cache_net.fleet.refused_documents import RefusedDocuments
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.testing import ManualClock
from tests.replicas import Port, answer, digest, in_sync, message, replica


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_KEYS", 4)


def half(clock: ManualClock, prefix: str, keys: int = 3, node: str = "beta") -> Document:
    """Keys above a floor that all have had."""
    now_ms = clock.wall_ms()
    document = Document.unwritten({}).written({}, Stamp(now_ms - 1000, 0, "gamma"), now_ms - 1000)
    changes = {f"{prefix}{number}": number for number in range(keys)}
    return document.updated(changes, (), Stamp(now_ms, 0, node), now_ms)


def apart(port: Port, clock: ManualClock) -> Replica:
    """A host that has just heard what does not fit."""
    host = in_sync(port, clock, half(clock, "mine", node="alpha"))
    host.received(message("CACHE", half(clock, "theirs").to_json()), "")
    return host


def test_trouble_says_which_cap_and_what_to_do(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    assert "beta" in host.trouble
    assert "6 keys are more than the 4 allowed" in host.trouble
    assert "to fix it, write the whole document" in host.trouble
    assert len(host.trouble) < limits.HOST_TEXT_BYTES
    assert host.in_sync and not host.in_step


def test_bytes_are_capped_too(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_KEYS", 100)
    mine, theirs = half(clock, "mine"), half(clock, "theirs")
    together = mine.merged(theirs)
    monkeypatch.setattr(limits, "DOCUMENT_BYTES", len(together.to_text()))
    assert mine.capped_merge(theirs) == (together, "")
    monkeypatch.setattr(limits, "DOCUMENT_BYTES", len(together.to_text()) - 1)
    assert "bytes of document" in mine.capped_merge(theirs)[1]


def test_files_keeper_sees_the_refused_document_once(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    theirs = half(clock, "theirs")
    host.received(message("CACHE", theirs.to_json()), "")
    assert port.merged == [theirs]


def test_version_is_asked_for_once_until_something_changes(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    port.sent.clear()
    theirs = half(clock, "theirs")
    for _ in range(3):
        host.received(message("digest", digest(theirs, apart=True)), "amq.gen-x")
    assert port.sent == []
    changed = theirs.updated({"theirs0": "other"}, (), Stamp(clock.wall_ms(), 1, "beta"), clock.wall_ms())
    host.received(message("digest", digest(changed, apart=True)), "amq.gen-x")
    assert port.sent_kinds() == [("CACHE_FILE_READ", "amq.gen-x")]
    host.received(answer(port, changed), "")
    host.received(message("digest", digest(changed, apart=True)), "amq.gen-x")
    assert len(port.sent) == 1
    host.local_changed(host.document.updated({"mine0": "o"}, (), Stamp(clock.wall_ms(), 2, "alpha"), clock.wall_ms()))
    host.received(message("digest", digest(changed, apart=True)), "amq.gen-x")
    assert port.sent_kinds().count(("CACHE_FILE_READ", "amq.gen-x")) == 2
    assert host.trouble


def test_host_apart_says_so_and_is_asked(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    port.sent.clear()
    host.timers[Replica.DIGEST_TIMER]()
    assert port.sent == [("digest", digest(host.document, apart=True), EVERYBODY)]
    third = in_sync(port, clock, half(clock, "mine", node="zeta"))
    port.sent.clear()
    older = half(clock, "theirs", node="beta")
    third.received(message("digest", digest(older)), "amq.gen-x")
    assert port.sent == []
    third.received(message("digest", digest(older, apart=True)), "amq.gen-x")
    assert port.sent_kinds() == [("CACHE_FILE_READ", "amq.gen-x")]


def test_digest_of_a_refused_document_wakes_nobody(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    for _ in range(8):
        host.timers[Replica.DIGEST_TIMER]()
    calm_s = port.timers[Replica.DIGEST_TIMER]
    host.received(message("digest", digest(half(clock, "theirs"), apart=True)), "amq.gen-x")
    assert port.timers[Replica.DIGEST_TIMER] == calm_s > 10


def test_refused_document_is_not_passed_on(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    host.received(message("CACHE_FILE_READ"), "amq.gen-x")
    assert port.sent[-1] == ("answer", host.document.to_json(), "amq.gen-x")


def test_answer_leaves_out_what_the_file_cannot_take(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, half(clock, "mine", keys=1, node="alpha"))
    host.received(message("CACHE", half(clock, "theirs").to_json()), "")
    grown = half(clock, "mine", keys=4, node="alpha")  # before the file's keeper came to it
    host.local_changed(grown)
    host.received(message("CACHE_FILE_READ"), "amq.gen-x")
    assert port.sent[-1] == ("answer", grown.to_json(), "amq.gen-x")


def test_document_refused_by_the_file_is_a_trouble(port: Port, clock: ManualClock) -> None:
    host = in_sync(port, clock, half(clock, "mine", keys=1, node="alpha"))
    theirs = half(clock, "theirs")
    host.received(message("CACHE", theirs.to_json()), "")
    assert host.trouble == "", "it fits into what the host knows of its file"
    host.merge_refused(theirs, "beta", half(clock, "mine", node="alpha"))
    assert "beta" in host.trouble and not host.in_step
    port.sent.clear()
    host.received(message("digest", digest(theirs, apart=True)), "amq.gen-x")
    assert "CACHE_FILE_READ" not in [kind for kind, _ in port.sent_kinds()]


def test_joining_host_takes_part_although_file_refuses_answer(port: Port, clock: ManualClock) -> None:
    host = replica(port, clock, half(clock, "mine", keys=1, node="alpha"))
    host.link_up(1)
    theirs = half(clock, "theirs")
    host.received(answer(port, theirs), "")
    assert not host.in_sync
    host.merge_refused(port.merged[-1], "beta", half(clock, "mine", node="alpha"))
    assert host.in_sync and not host.in_step and host.trouble


def test_joining_host_takes_part_although_answer_exceeds_cap(port: Port, clock: ManualClock) -> None:
    mine = half(clock, "mine", node="alpha")
    host = replica(port, clock, mine)
    host.link_up(1)
    host.received(answer(port, half(clock, "theirs")), "")
    assert host.in_sync and not host.in_step and host.trouble
    assert port.sent[-1] == ("CACHE", mine.to_json(), EVERYBODY)


@pytest.mark.parametrize("by", ["us", "them"])
def test_a_whole_write_ends_the_trouble(port: Port, clock: ManualClock, by: str) -> None:
    host = apart(port, clock)
    clock.advance(1)
    whole = host.document.written({"a": 1}, Stamp(clock.wall_ms(), 0, "beta"), clock.wall_ms())
    if by == "them":
        host.received(message("CACHE", whole.to_json()), "")
        assert port.merged[-1] == whole
    host.local_changed(whole)
    assert host.in_step and host.trouble == ""


def test_keys_that_are_deleted_there_end_the_trouble(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    fits = half(clock, "theirs", keys=1)
    host.received(message("CACHE", fits.to_json()), "")
    assert host.in_step and port.merged[-1] == fits


def test_trouble_lasts_while_the_other_document_is_heard_of(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    theirs = half(clock, "theirs")
    for _ in range(10):
        clock.advance(30)
        host.received(message("digest", digest(theirs), "delta"), "their-queue")
        host.timers[Replica.DIGEST_TIMER]()
        assert host.trouble and not host.in_step


def test_trouble_ends_when_nobody_mentions_the_other_document(port: Port, clock: ManualClock) -> None:
    host = apart(port, clock)
    clock.advance(119)
    host.timers[Replica.DIGEST_TIMER]()
    assert host.trouble
    clock.advance(2)
    host.timers[Replica.DIGEST_TIMER]()
    assert host.trouble == "" and host.in_step


def test_the_memory_of_refused_documents_is_bounded(clock: ManualClock) -> None:
    refused, mine = RefusedDocuments(clock, 120.0), half(clock, "mine")
    for number in range(10 * limits.REFUSED_DOCUMENTS):
        refused.note(f"host-{number}", half(clock, f"theirs-{number}"), mine, "6 keys")
    assert len(refused._of) == limits.REFUSED_DOCUMENTS
    assert f"and {limits.REFUSED_DOCUMENTS - 1} more" in refused.trouble
