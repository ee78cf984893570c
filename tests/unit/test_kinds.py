"""The table of message kinds, and that nobody keeps another list."""

from __future__ import annotations

import pytest

from miros_cache_net.wire import kinds
from miros_cache_net.wire.kinds import KINDS, Form, Sender


def test_the_names_are_the_contract() -> None:
    assert set(KINDS) == {
        "CACHE", "CACHE_FILE_WRITE", "CACHE_FILE_READ", "digest", "answer", "unchanged", "status_request", "status",
        "challenge", "challenge_answer",
    }  # fmt: skip


def test_requests_are_the_kinds_that_make_a_node_answer() -> None:
    assert {"CACHE_FILE_READ", "status_request", "challenge"} == kinds.REQUESTS


def test_only_the_newest_of_what_is_state_has_to_be_kept() -> None:
    assert {"CACHE", "CACHE_FILE_WRITE", "digest"} == kinds.STATES


def test_what_a_command_may_send_does_not_prove_that_a_node_is_there() -> None:
    assert {"CACHE_FILE_READ", "CACHE_FILE_WRITE", "status_request", "challenge"} == set(KINDS) - kinds.OF_NODES


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_what_is_answered_is_answered_by_kinds_that_there_are(kind: kinds.Kind) -> None:
    assert set(kind.answered_by) <= set(KINDS)
    assert kind.answered_by or kind.form is not Form.REQUEST
    assert (kind.name in kinds.ASKING) == bool(kind.answered_by)


def test_every_answer_answers_something_and_comes_from_a_node() -> None:
    answered = {name for kind in KINDS.values() for name in kind.answered_by}
    for kind in KINDS.values():
        if kind.form is Form.ANSWER:
            assert kind.name in answered and kind.sender is Sender.NODE
