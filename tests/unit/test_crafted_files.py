"""Files that somebody made on purpose: each is set aside or refused by name, and writing goes on."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.cache import Cache
from miros_cache_net.document.layout import text_of, version_of
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import DocumentError
from miros_cache_net.store.plain_read import read_cache
from miros_cache_net.store.sidecar import last_discovery, sidecar_path
from tests.threads import logged_here

META = {"format": 2, "floor": "018bcfe56800.0003.alpha-0a1b2c3d", "discovered_at_ms": 1, "stamps": {}, "deleted": {}}


def signed(contents: bytes, **meta: Any) -> bytes:
    """A text with a digest that fits it, as anybody can make one."""
    metadata = json.dumps({**META, **meta}, sort_keys=True, separators=(",", ":")).encode()
    return text_of(contents, metadata, version_of(contents, metadata))


CRAFTED = {
    "not a number": signed(b'{"a":NaN}'),
    "infinite": signed(b'{"a":-Infinity}'),
    "too large a number": signed(b'{"a":[1e999]}'),
    "half a surrogate pair": signed(b'{"a":"\\ud800"}'),
    "half a surrogate pair in a key": signed(b'{"\\uDC00":1}'),
    "discovered after the end of time": signed(b'{"a":1}', discovered_at_ms=10**400),
    "discovered past 2200": signed(b'{"a":1}', discovered_at_ms=limits.LATEST_STAMP_MS + 1),
    "a time-out without end": signed(b'{"time_out_in_minutes":Infinity}'),
    "nested too deep": signed(b'{"a":%s1%s}' % (b"[" * 70, b"]" * 70)),
    "nested without end": signed(b'{"a":%s' % (b"[" * 5000)),
    "no stamp": signed(b'{"a":1}', floor="x"),
    "an escape sequence for a node": signed(b'{"a":1}', floor="018bcfe56800.0003.\x1b[31m"),
}


def put(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize("kind", CRAFTED)
def test_document_with_a_good_digest_is_read_strictly(path: Path, kind: str) -> None:
    put(path, CRAFTED[kind])
    try:
        json.dumps(read_cache(path), allow_nan=False, ensure_ascii=False).encode()
        assert read_cache(path).origin.isprintable()
    except DocumentError as error:
        assert str(path) in str(error)
    with Cache(path) as cache:
        assert cache.update({"b": 2}).dict == {"b": 2}
        assert cache.update({"c": 3}).dict == {"b": 2, "c": 3}
    (aside,) = path.parent.glob("cache.json.corrupt-*")
    assert aside.read_bytes() == CRAFTED[kind]


@pytest.mark.parametrize("text", ["NaN", "\\ud800", "1e999", "\\\\uD800"])
def test_document_that_quotes_odd_json_stays_ours(path: Path, text: str) -> None:
    with Cache(path) as cache:
        cache.write({"a": text})
        before = path.read_bytes()
        assert cache.update({}).dict == {"a": text}
    assert read_cache(path).dict == {"a": text}
    assert path.read_bytes() == before


LOCK_FILES = {
    "nested without end": b"[" * limits.SIDECAR_BYTES,
    "not a number": b'{"mode":NaN}',
    "too many digits": b'{"mode":%s}' % (b"9" * 1000),
    "a digest without end": None,
    "a discovery without end": None,
}


@pytest.mark.parametrize("kind", LOCK_FILES)
def test_a_crafted_lock_file_stops_nobody(path: Path, kind: str) -> None:
    lock = Path(sidecar_path(str(path)))
    with Cache(path) as cache:
        cache.write({"a": 1})
        record = json.loads(lock.read_text())
        more = {"digest": "d" * 600} if "digest" in kind else {"discovery": [1, 10**300]}
        lock.write_bytes(LOCK_FILES[kind] or json.dumps({**record, **more}).encode())
        assert last_discovery(str(path))[1] <= limits.STAMP_WALL_MS
        assert cache.update({"b": 2}).dict == {"a": 1, "b": 2}
        assert cache.get_or_discover(lambda: {"a": 1}).dict == {"a": 1, "b": 2}
        assert cache.update({"c": 3}).dict == {"a": 1, "b": 2, "c": 3}
    assert json.loads(lock.read_text())["holder"] == ""
    assert lock.stat().st_size == limits.SIDECAR_BYTES


def test_first_and_newest_files_set_aside_are_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path.with_name("cache.json.corrupt-a-directory").mkdir()
    with Cache(path) as cache:
        for number in range(limits.SET_ASIDE_FILES + 3):
            put(path, b"{broken %d" % number)
            assert cache.update({"a": number}).dict == {"a": number}
    kept = [each.read_bytes() for each in path.parent.glob("cache.json.corrupt-2*")]
    newest = range(4, limits.SET_ASIDE_FILES + 3)
    assert sorted(kept) == sorted(b"{broken %d" % number for number in (0, *newest))
    assert sum("removed files set aside earlier" in each.getMessage() for each in logged_here(caplog)) == 3


def test_crafted_texts_differ_from_good_in_one_thing(path: Path) -> None:
    put(path, signed(b'{"a":1}'))
    assert read_cache(path).dict == {"a": 1}
    assert Document.from_json(json.loads(path.read_bytes())).floor.stamp == Stamp.parse(META["floor"])
