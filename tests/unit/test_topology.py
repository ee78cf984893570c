"""What a topology may hold, and how its exchanges match."""

from __future__ import annotations

from typing import Any

import pytest

from miros_cache_net.amqp.link import Publication
from miros_cache_net.amqp.topology import Binding, Exchange, Queue, Topology, comes_back, destination, matches

SHARED = Topology((Exchange("x"),), Queue(), requests=Queue("shared"))


@pytest.mark.parametrize(
    ("binding", "key", "expected"),
    [
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#", "", True),
        ("#.c", "a.b.c", True),
        ("*.*", "a.b", True),
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
    ],
)
def test_bindings_match_as_those_of_a_topic_exchange(binding: str, key: str, expected: bool) -> None:
    assert matches("topic", binding, key) is expected


@pytest.mark.parametrize(("binding", "key", "expected"), [("a.b", "a.b", True), ("a.*", "a.b", False), ("", "", True)])
def test_direct_exchange_compares_and_fanout_takes_all(binding: str, key: str, expected: bool) -> None:
    assert matches("direct", binding, key) is expected
    assert matches("fanout", binding, key)


@pytest.mark.parametrize(
    ("publication", "where"),
    [
        (Publication(b"", "x", "a.b"), ("x", "a.b")),
        (Publication(b"", "x"), ("x", "")),
        (Publication(b"", queue="q"), ("", "q")),
        (Publication(b"", requests=True), ("", "shared")),
    ],
)
def test_a_publication_goes_where_it_says(publication: Publication, where: tuple[str, str]) -> None:
    assert destination(SHARED, publication) == where


def test_only_what_own_bindings_match_comes_back() -> None:
    exchanges = (Exchange("x"), Exchange("y"))
    own = Queue(bindings=(Binding("x", "a.*"), Binding("y", "#")))
    watched = Topology(exchanges, own, canary_exchange="x")
    assert comes_back(watched, "x", "a.b")
    assert not comes_back(watched, "x", "b.b")
    assert not comes_back(watched, "y", "a.b")
    assert not comes_back(watched, "", "a.b")
    assert not comes_back(Topology(exchanges, own), "x", "a.b")


@pytest.mark.parametrize(
    "wrong",
    [
        {"exchange": "x"},
        {"exchange": "x" * 256},
        {"queue": "q" * 256},
        {"key": "k" * 256},
        {"lease": "l" * 256},
        {"canary": "elsewhere"},
    ],
)
def test_topology_with_undeclared_or_long_names_is_refused(wrong: dict[str, str]) -> None:
    right = {"exchange": "e", "key": "k", "queue": "q", "lease": "l", "canary": "e"}
    given = {**right, **wrong}
    bound = (Binding(right["exchange"], given["key"]),)
    with pytest.raises(ValueError):
        Topology(
            (Exchange(given["exchange"]),),
            Queue(bindings=bound),
            Queue(given["queue"]),
            given["lease"],
            given["canary"],
        )


@pytest.mark.parametrize("more", [{"requests": Queue("q")}, {"lease": "l"}, {"canary_exchange": "e"}])
def test_topology_that_only_sends_has_nothing_to_hear(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="declares only exchanges"):
        Topology((Exchange("e"),), None, **more)


def test_topology_that_binds_what_it_declares_is_right() -> None:
    Topology((Exchange("e"),), Queue(bindings=(Binding("e", "k" * 255),)), Queue("q"), "l", "e")
