"""The table of message kinds, and that nobody keeps another list."""

from __future__ import annotations

import pytest

from miros_cache_net.wire import kinds
from miros_cache_net.wire.kinds import KINDS, Form, Sender


def test_the_names_are_the_contract() -> None:
    assert set(KINDS) == {
        "CACHE", "CACHE_FILE_WRITE", "CACHE_FILE_READ", "digest", "answer", "unchanged", "status_request", "status",
        "trace_request", "trace", "challenge", "challenge_answer", "mesh",
    }  # fmt: skip


def test_requests_are_kinds_that_nodes_answer() -> None:
    assert {"CACHE_FILE_READ", "status_request", "trace_request", "challenge"} == kinds.REQUESTS


def test_states_are_kinds_whose_newest_is_kept() -> None:
    assert {"CACHE", "CACHE_FILE_WRITE", "digest"} == kinds.STATES


def test_kinds_of_commands_prove_no_node() -> None:
    assert {"CACHE_FILE_READ", "CACHE_FILE_WRITE", "status_request", "trace_request", "challenge"} == (
        set(KINDS) - kinds.OF_NODES
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_answers_are_of_existing_kinds(kind: kinds.Kind) -> None:
    assert set(kind.answered_by) <= set(KINDS)
    assert kind.answered_by or kind.form is not Form.REQUEST
    assert (kind.name in kinds.ASKING) == bool(kind.answered_by)


def test_every_answer_comes_from_a_node() -> None:
    answered = {name for kind in KINDS.values() for name in kind.answered_by}
    for kind in KINDS.values():
        if kind.form is Form.ANSWER:
            assert kind.name in answered and kind.sender is Sender.NODE
