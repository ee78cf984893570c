"""What was sent by the first release of this format: whatever changes, it must be opened, or refused by name.

`python -m tests.unit.test_wire_format` adds the kinds that the fixture does not have yet, and leaves the others as they
were sent.  A new version of the format has a file of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.document.layout import META_KEY
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import WrongVersion
from miros_cache_net.fleet.digest import Digest
from miros_cache_net.mesh.news import News
from miros_cache_net.wire.envelope import VERSION, Message, Origin, encode
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import KeyRing
from miros_cache_net.wire.kinds import KINDS
from miros_cache_net.wire.token_window import Mark

FIXTURE = Path(__file__).parent / "fixtures" / "messages-2.json"
#: Protects nothing: it is there so that the fixture can be opened.
KEY = "bWlyb3MtY2FjaGUtbmV0IGZpeHR1cmUga2V5IDAwMDE="
RING = KeyRing.from_keys([KEY])
SENT_MS = 1_800_000_000_000


def document() -> Document:
    stamp = Stamp(SENT_MS - 1000, 0, "alpha-1a2b")
    whole = Document.unwritten({}).written(
        {"addresses": ["10.0.0.1"], "time_out_in_minutes": 30}, stamp, SENT_MS - 1000
    )
    return whole.updated({"ä": {"n": 1.5}}, ["addresses"], Stamp(SENT_MS, 1, "beta-3c4d"), SENT_MS)


def bodies() -> dict[str, Any]:
    """What each kind carries, in the order of the messages' numbers: a new kind goes to the end."""
    whole = document()
    digest = Digest.of(whole, joining=True, apart=True, answers=("b00f-1", "b00f-2"))
    return {
        "CACHE": whole.to_json(),
        "CACHE_FILE_READ": {"version": whole.version},
        "CACHE_FILE_WRITE": whole.to_json(),
        "answer": whole.to_json(),
        "challenge": {"address": "10.0.0.1", "nonce": "00ff"},
        "challenge_answer": {"address": "10.0.0.1", "nonce": "00ff"},
        "digest": digest.to_body(),
        "status": {"node": "alpha-1a2b", "connected": True, "trouble": "", "counters": {"links_made": 1}},
        "status_request": None,
        "unchanged": {"version": whole.version},
        "mesh": {
            "content": "5d41402abc4b2a76b9719d911017c592",
            "marks": [[SENT_MS // 1000, "AAECAwQFBgcICQoLDA0ODw=="]],
        },
        "trace_request": {"watch": "00ff", "spy": False, "payloads": False, "charts": [], "nodes": []},
        "trace": {
            "steps": [[SENT_MS << 16, 7, "peers", "file_read", "file_access_waiting", "file_read", 90, [], [], [], ""]],
            "missed": 0,
            "said": "",
        },
    }


def message(kind: str, number: int) -> Message:
    origin = Origin("alpha-1a2b", "Alpha.example", "b00f", number)
    answers = "cafe-3" if KINDS[kind].form.value == "answer" else ""
    return Message(kind, "lab/192.168.1.0%2F24", "peers", f"b00f-{number}", origin, SENT_MS, bodies()[kind], answers)


MESSAGES = {kind: message(kind, number) for number, kind in enumerate(bodies())}


@pytest.fixture
def gate() -> Gate:
    return Gate(lambda: RING, scope="lab/192.168.1.0%2F24", document="peers", node="beta-3c4d", host="beta")


def test_every_kind_has_a_body_here() -> None:
    assert set(bodies()) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_message_of_format_2_is_opened(kind: str, gate: Gate) -> None:
    kept = json.loads(FIXTURE.read_text())["messages"]
    opened = gate.open(kept[kind].encode(), routing_key="", key_id=RING.primary_id)
    assert opened == MESSAGES[kind]


def test_the_document_in_it_is_read() -> None:
    kept = json.loads(FIXTURE.read_text())["document"]
    assert kept[META_KEY]["format"] == 2
    assert Document.from_json(kept) == document()


def test_the_digest_in_it_is_read(gate: Gate) -> None:
    kept = json.loads(FIXTURE.read_text())["messages"]["digest"]
    digest = Digest.from_body(gate.open(kept.encode()).body)
    assert digest == Digest.of(document(), joining=True, apart=True, answers=("b00f-1", "b00f-2"))


def test_news_without_a_term_are_those_of_a_first_speaker(gate: Gate) -> None:
    kept = json.loads(FIXTURE.read_text())["messages"]["mesh"]
    news = News(1, "5d41402abc4b2a76b9719d911017c592", (Mark(SENT_MS // 1000, bytes(range(16))),))
    assert News.from_body(gate.open(kept.encode()).body) == news


def test_message_of_format_1_is_refused_by_name(gate: Gate) -> None:
    before = encode(MESSAGES["CACHE"]).replace(b'"v":2', b'"v":1').replace(b'"answers":"",', b"")
    with pytest.raises(WrongVersion, match="format version 1, this release reads 2: run the same release"):
        gate.open(RING.encrypt(before))
    assert gate.counters == {"version": 1}


def write() -> None:
    assert VERSION == 2, "keep this one, and make another beside it"
    kept = json.loads(FIXTURE.read_text())
    for kind, each in MESSAGES.items():
        kept["messages"].setdefault(kind, RING.encrypt(encode(each)).decode())
    FIXTURE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    write()
