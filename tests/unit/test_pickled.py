"""Pickles of texts, read without `pickle`: all that old programs write, and nothing that does more."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_cache_net import limits
from miros_cache_net.errors import MalformedMessage
from miros_cache_net.wire import pickled
from miros_cache_net.wire.pickled import dump_pair, dump_text, load_pair, load_text

TEXTS = ["", "192.168.1.75", "ä € \U0001f600", "line\nbreak \\u0041", "x" * 255, "x" * 256, "x" * 70_000]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pairs_and_texts_of_every_protocol_are_read(protocol: int) -> None:
    for text in TEXTS:
        assert load_text(pickle.dumps(text, protocol)) == text
        assert load_pair(pickle.dumps(("10.0.0.1", text), protocol)) == ("10.0.0.1", text)


@given(st.text(), st.text())
def test_writing_equals_what_an_old_program_writes(first: str, second: str) -> None:
    if first == second:  # the old writer then refers to the first
        second += "!"
    assert dump_pair(first, second) == pickle.dumps((first, second), protocol=3)
    assert dump_text(first) == pickle.dumps(first, protocol=3)


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


HOSTILE = {
    "a command": pickle.dumps(Runs()),
    "a command inside a pair": pickle.dumps(("10.0.0.1", Runs())),
    "a command of protocol 0": b"cos\nsystem\n(S'touch ran'\ntR.",
    "a memo bomb": b"\x80\x03X\x01\x00\x00\x00aq\x00" + b"r\xff\xff\xff\x7f" + b".",
    "a large memo": b"\x80\x03X\x01\x00\x00\x00aq\x03.",
    "a large memo in digits": b"Va\np99999999\n.",
    "a memo in other digits": "Va\np\u00b2\n.".encode(),
    "a memo of nothing": b"q\x00.",
    "many operations": b"\x80\x03" * 11 + b".",
    "nested tuples": pickle.dumps((("a", "b"), "c"), 2),
    "nested tuples of protocol 0": b"((Va\nVb\ntVc\nt.",
    "three texts": pickle.dumps(("a", "b", "c")),
    "one text in a tuple": pickle.dumps(("a",)),
    "a list": pickle.dumps(["a", "b"]),
    "a dict": pickle.dumps({"a": "b"}),
    "bytes": pickle.dumps((b"a", b"b")),
    "numbers": pickle.dumps((1, 2)),
    "nothing": pickle.dumps(None),
    "trailing bytes": dump_pair("a", "b") + b".",
    "no end": dump_pair("a", "b")[:-1],
    "two values": b"Va\nVb\n.",
    "no value": b".",
    "a mark": b"(.",
    "an empty message": b"",
    "a length beyond the end": b"X\xff\xff\xff\xffa.",
    "a frame beyond the end": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffX\x00\x00\x00\x00.",
    "an unknown protocol": b"\x80\x99X\x00\x00\x00\x00.",
    "no UTF-8": b"X\x01\x00\x00\x00\xff.",
    "half a surrogate pair": b"V\\ud800\n.",
    "a line without end": b"Va",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_everything_else_is_refused_and_nothing_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for load in (load_pair, load_text):
        with pytest.raises(MalformedMessage):
            load(HOSTILE[name])
    assert not list(tmp_path.iterdir())


def test_text_is_no_pair_and_pair_no_text() -> None:
    with pytest.raises(MalformedMessage):
        load_pair(dump_text("a"))
    with pytest.raises(MalformedMessage):
        load_text(dump_pair("a", "b"))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for load in (load_pair, load_text):
        with contextlib.suppress(MalformedMessage):
            load(data)


@given(st.permutations(sorted(pickled._OPERATIONS)), st.binary(max_size=30))
def test_operations_in_any_order_are_read_or_refused(codes: list[bytes], data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        load_pair(b"".join(code + data[:n] for n, code in enumerate(codes)))


def test_longest_written_pickle_takes_every_operation() -> None:
    longest = pickle.dumps(("10.0.0.1", "x" * 70_000), 4)
    assert load_pair(longest)[0] == "10.0.0.1"
    assert limits.PICKLE_OPERATIONS == 10


def test_the_package_never_imports_pickle() -> None:
    package = Path(sys.modules["miros_cache_net"].__file__ or "").parent
    importing = [
        path
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(
            ("import pickle", "from pickle", "import _pickle", "import dill", "import cloudpickle")
        )
    ]
    assert not importing
