from __future__ import annotations

import threading
from typing import Any

import pytest

from miros_cache_net.amqp.link import Delivery
from miros_cache_net.document.value import Document
from miros_cache_net.fleet.digest import Digest
from miros_cache_net.fleet.inbox import Inbox
from miros_cache_net.observe.families import RECEIVED
from miros_cache_net.observe.registry import Registry
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing, generate_key

RING = KeyRing.from_keys([generate_key()])


def gate(node: str) -> Gate:
    return Gate(lambda: RING, scope="fleet", document="c", node=node, host=node)


@pytest.fixture
def woken() -> list[int]:
    return []


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def inbox(woken: list[int], registry: Registry) -> Inbox:
    return Inbox(gate("beta"), lambda: woken.append(1), lambda _: None, registry.labelled(RECEIVED))


def put(inbox: Inbox, *bodies: bytes) -> None:
    for body in bodies:
        inbox.put(Delivery(body, ""))


def bodies(inbox: Inbox) -> list[Any]:
    return [received.message.body for received in inbox.take_all()]


def test_newer_document_replaces_a_hosts_older_one(inbox: Inbox, woken: list[int]) -> None:
    alpha, gamma = gate("alpha"), gate("gamma")
    put(inbox, alpha.seal("CACHE", 1).body, gamma.seal("CACHE", 2).body, alpha.seal("CACHE", 3).body)
    assert sorted(bodies(inbox)) == [2, 3]
    assert woken == [1]
    put(inbox, alpha.seal("CACHE", 4).body)
    assert woken == [1, 1]


@pytest.mark.parametrize("more", [{"answers": ["a"]}, {"joining": True}])
def test_digest_that_asks_or_answers_is_kept(inbox: Inbox, more: dict[str, Any]) -> None:
    alpha, plain = gate("alpha"), Digest.of(Document.unwritten({})).to_body()
    telling = {**plain, **more}
    put(inbox, alpha.seal("digest", telling).body, alpha.seal("digest", plain).body)
    assert bodies(inbox) == [telling, plain]


@pytest.mark.parametrize("kind", ["CACHE", "digest"])
def test_replayed_message_does_not_replace_a_newer_one(inbox: Inbox, kind: str) -> None:
    alpha = gate("alpha")
    old, new = alpha.seal(kind, "old").body, alpha.seal(kind, "new").body
    put(inbox, new, old, old)
    assert bodies(inbox) == ["new"]


def test_a_host_that_started_again_is_believed(inbox: Inbox) -> None:
    before, after = gate("alpha"), gate("alpha")
    old = before.seal("CACHE", "before").body
    before.seal("CACHE", "unsent")
    put(inbox, old, after.seal("CACHE", "after").body)
    assert bodies(inbox) == ["after"]


def test_only_another_key_or_format_is_told(woken: list[int]) -> None:
    told: list[int] = []
    inbox = Inbox(gate("beta"), lambda: None, lambda _: told.append(1), Registry().labelled(RECEIVED))
    put(inbox, b"garbage", b"gAAAA", RING.encrypt(b"{}"), gate("alpha").seal("digest").body)
    assert told == []
    put(inbox, KeyRing.from_keys([generate_key()]).encrypt(b"{}"))
    assert told == [1]
    put(inbox, RING.encrypt(b'{"v": 3}'))
    assert told == [1, 1]


def test_requests_are_all_kept(inbox: Inbox) -> None:
    alpha = gate("alpha")
    put(inbox, *(alpha.seal("CACHE_FILE_READ").body for _ in range(5)))
    assert len(bodies(inbox)) == 5


def test_beyond_its_bound_messages_are_dropped_and_counted(
    inbox: Inbox, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miros_cache_net.limits.INBOX_REQUESTS", 3)
    alpha = gate("alpha")
    put(inbox, *(alpha.seal("status_request").body for _ in range(5)))
    assert len(bodies(inbox)) == 3
    assert registry.counter(RECEIVED, "dropped").value == 2


def test_many_threads_may_put(inbox: Inbox) -> None:
    def burst(name: str) -> None:
        sender = gate(name)
        put(inbox, *(sender.seal("CACHE", number).body for number in range(50)))

    threads = [threading.Thread(target=burst, args=(f"host-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies(inbox) == [49] * 4
