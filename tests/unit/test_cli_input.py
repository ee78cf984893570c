"""JSON handed to a command: what is taken, and what each mistake is answered with."""

from __future__ import annotations

import io
import re
import sys

import pytest

from miros_cache_net.cli.json_input import assignments, object_from, object_in
from miros_cache_net.errors import PayloadError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "standard input is empty; give a JSON object"),
        (b" \n", "standard input is empty"),
        (b"{", "standard input: not JSON"),
        (b"[1]", "standard input holds an array; give a JSON object"),
        (b'"x"', "standard input holds text"),
        (b"7", "standard input holds a number"),
        (b"true", "standard input holds true or false"),
        (b"null", "standard input holds null"),
        (b'{"a": NaN}', "standard input: NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "standard input: the key 'a' appears twice"),
        (b'{"a": "\xff"}', "standard input: not UTF-8 at byte 7"),
        (b"[" * 100_000, "standard input: nested deeper than 64 levels"),
        (b'{"a": "' + b"x" * 9_000_000 + b'"}', "bytes are more than the 8388608 allowed"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_malformed_object_is_refused_with_its_place(text: bytes, said: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(said)) as caught:
        object_in(text, "standard input")
    assert "\n" not in str(caught.value)


def test_an_object_is_taken_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'\xef\xbb\xbf{"a": [1]}')))
    assert object_from("-") == {"a": [1]}


def test_a_closed_standard_input_counts_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PayloadError, match="standard input is empty"):
        object_from("-")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("site=lab",), """text is quoted twice, for the shell and for JSON: 'site="lab"'"""),
        (("hosts=[10.0.0.2]",), "quote it for the shell: 'hosts=[1, 2]'"),
        (("a=",), "the value of 'a' is not JSON"),
        (("=1",), "'=1' names no key"),
        (("a",), "to remove a key, write --delete a"),
        (("a=1", "a=2"), "the key 'a' is given twice"),
        (("_miros_cache_net=1",), "is reserved"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_mistaken_assignment_is_refused_with_the_remedy(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(said)):
        assignments(arguments)


def test_assignments_are_json_after_the_first_equals_sign() -> None:
    assert assignments(("a=1", 'b="x=y"', "c=null")) == {"a": 1, "b": "x=y", "c": None}


@pytest.mark.parametrize("minutes", ['"60"', "true", "null", "[60]", "{}"])
def test_time_out_that_is_no_number_is_refused(minutes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f'{{"time_out_in_minutes": {minutes}}}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    for take in (lambda: object_from("-"), lambda: assignments((f"time_out_in_minutes={minutes}",))):
        with pytest.raises(PayloadError, match="60 without quotes"):
            take()


def test_reserved_key_is_left_out_with_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1, "_miros_cache_net": {}}')))
    assert object_from("-")["a"] == 1
    assert capsys.readouterr().err == "note: the key '_miros_cache_net' of standard input is reserved and left out\n"
