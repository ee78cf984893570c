"""Which nodes share a document: those whose files have one name, and nobody else.  On the in-memory broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import Cache, CacheNode, Settings, SettingsError
from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.fleet.place import document_topology
from miros_cache_net.host.bridge_lock import bridge_lock_path
from miros_cache_net.single_flight import discovery_lock_path
from miros_cache_net.testing import wait_until
from miros_cache_net.wire.keyring import generate_key

Node = Callable[..., CacheNode]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopping: Callable[[Any], Any]) -> Iterator[Node]:
    """Builds a node on a path below an empty working directory, its settings from the environment."""
    broker = MemoryBroker()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIROS_CACHE_KEYS", generate_key().decode())

    def build(path: str | None, settings: Settings | None = None) -> CacheNode:
        if path is not None:
            Path(path).parent.mkdir(exist_ok=True)
        made: CacheNode = stopping(
            CacheNode(
                path,
                settings,
                link_factory=lambda settings, place: MemoryLink(
                    broker, document_topology(place), connection_name=settings.node_name
                ),
            )
        )
        wait_until(lambda: made.connected, what=f"the node on {path} is in step")
        return made

    yield build


def contents(path: str) -> dict[str, Any]:
    with Cache(path) as cache:
        return dict(cache.read().dict)


def write(path: str, **contents: Any) -> None:
    with Cache(path) as cache:
        cache.write(contents)


def reaches(path: str, **expected: Any) -> None:
    wait_until(lambda: contents(path) == expected, what=f"{expected} in {path}")


def test_files_of_different_names_never_share_a_document(node: Node) -> None:
    for path in ("h1/printers.json", "h2/scanners.json", "h3/printers.json", "h4/scanners.json"):
        node(path)
    write("h1/printers.json", kind="printers")
    write("h2/scanners.json", kind="scanners")
    reaches("h3/printers.json", kind="printers")
    reaches("h4/scanners.json", kind="scanners")
    assert contents("h1/printers.json") == {"kind": "printers"}
    assert contents("h2/scanners.json") == {"kind": "scanners"}


def test_two_files_of_one_directory_are_two_documents(node: Node) -> None:
    printers, scanners = node("h1/printers.json"), node("h1/scanners.json")
    assert {printers.status()["role"], scanners.status()["role"]} == {"bridge"}
    write("h1/printers.json", kind="printers")
    node("h2/printers.json")
    reaches("h2/printers.json", kind="printers")
    assert contents("h1/scanners.json") == {}


def test_one_name_is_one_document_however_given(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node("h1/printers.json")
    Path("h2").mkdir()
    monkeypatch.setenv("MIROS_CACHE_FILE", "h2/printers.json")
    node(None)
    write("h1/printers.json", kind="printers")
    reaches("h2/printers.json", kind="printers")


def test_document_in_environment_names_only_the_own_file(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIROS_CACHE_DOCUMENT", "peers")
    assert node(None).place.document == "peers"
    assert node(".miros_rabbitmq_cache.json").place.document == "peers"
    assert node("h1/printers.json").place.document == "printers.json"


def test_document_argument_names_the_file_of_any_node(node: Node) -> None:
    settings = Settings(document="peers")
    node("h1/printers.json", settings)
    node("h2/scanners.json", settings)
    write("h1/printers.json", kind="peers")
    reaches("h2/scanners.json", kind="peers")


def test_an_unusable_file_name_is_refused(node: Node) -> None:
    with pytest.raises(SettingsError, match="`document` must be given"):
        node("h1/a\tb.json")
    assert node("h1/a\tb.json", Settings(document="peers")).place.document == "peers"


def test_hidden_file_has_locks_of_its_own(tmp_path: Path) -> None:
    plain, hidden = tmp_path / "x.json", tmp_path / ".x.json"
    assert discovery_lock_path(plain) != discovery_lock_path(hidden)
    assert bridge_lock_path(plain, ["fleet"]) != bridge_lock_path(hidden, ["fleet"])
