"""The checker of the soak finds what it is there to find."""

from __future__ import annotations

from tests.scenarios.history import DELETED, History, Write


def history(*writes: Write) -> History:
    made = History()
    for write in writes:
        made.add(write)
    return made


def test_last_value_of_every_key_must_be_there() -> None:
    written = history(Write({"a": 1}, 0, 1), Write({"a": 2}, 2, 3), Write({"b": DELETED}, 2, 3))
    assert written.faults_of({"a": 2}) == []
    assert written.faults_of({"a": 1}) == ["a is 1, not 2"]
    assert written.faults_of({}) == ["a is absent, not 2"]
    assert written.faults_of({"a": 2, "b": 1}) == ["b is 1, not absent"]
    assert written.faults_of({"a": 2, "c": 1}) == ["c is 1, not absent"]


def test_whole_write_ends_only_what_came_before_it() -> None:
    whole = Write({"a": 9}, 4, 5, whole=True)
    written = history(Write({"a": 1}, 0, 1), Write({"b": 1}, 2, 3), whole, Write({"c": 1}, 6, 7))
    assert written.faults_of({"a": 9, "c": 1}) == []
    assert written.faults_of({"a": 9, "b": 1, "c": 1}) == ["b is 1, not absent"]
    assert written.faults_of({"a": 1, "c": 1}) == ["a is 1, not 9"]
    assert written.faults_of({"a": 9}) == ["c is absent, not 1"]


def test_either_of_simultaneous_writes_may_have_won() -> None:
    written = history(Write({"a": 1}, 0, 3), Write({"a": 9}, 2, 4, whole=True))
    assert written.faults_of({"a": 1}) == written.faults_of({"a": 9}) == []
    assert written.faults_of({}) == ["a is absent, not 9 or 1"]
