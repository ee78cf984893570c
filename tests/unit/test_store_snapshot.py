"""Reads without a lock: whole, cached by identity, patient with a writer that truncates."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import DocumentError, FileRefused, HardLinkRefused
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.reader import SnapshotReader
from miros_cache_net.store.snapshot import identity_of, parse_file


@pytest.fixture(name="reader")
def new_reader(path: Path) -> Iterator[SnapshotReader]:
    reader = SnapshotReader(path, {"default": 1})
    yield reader
    reader.close()


def put(path: Path, text: str | bytes, mtime_ns: int = 1_000_000_000) -> None:
    """Replace the document without touching its identity beyond the inode."""
    new = path.with_name("new")
    new.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(new, ns=(mtime_ns, mtime_ns))
    new.rename(path)


def test_the_same_inode_is_parsed_once(reader: SnapshotReader, path: Path) -> None:
    put(path, ours())
    assert reader.read() is reader.read()


def test_replacement_with_a_repeated_identity_is_seen(reader: SnapshotReader, path: Path) -> None:
    identities = []
    for number in range(300):
        put(path, ours(n=f"{number:03}"))
        identities.append(identity_of(path.stat()))
        if number % 2:
            assert reader.read().document.contents == {"n": f"{number:03}"}
    assert len(set(identities)) < 150, "identities were expected to repeat; the test proves nothing here"


def test_write_in_place_within_a_tick_is_seen(reader: SnapshotReader, path: Path) -> None:
    for number in range(50):
        path.write_text(f'{{"n":"{number:03}"}}')
        os.utime(path, ns=(0, 1_000_000_000))
        assert reader.read().document.contents == {"n": f"{number:03}"}


def test_missing_or_vanished_file_shows_the_default(reader: SnapshotReader, path: Path) -> None:
    assert reader.read().document.contents == {"default": 1}
    put(path, "{}")
    assert reader.read().document.contents == {}
    path.unlink()
    assert reader.read().status is None


def test_foreign_write_counts_at_the_file_time(reader: SnapshotReader, path: Path) -> None:
    put(path, '{"a": 1}', 1_700_000_000_000_000_000)
    snapshot = reader.read()
    assert snapshot.foreign
    assert snapshot.document.floor.discovered_at_ms == 1_700_000_000_000
    assert snapshot.document.origin == "unstamped"


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(b=2),
        lambda value: value.pop("a"),
        lambda value: value.update(a=2),
        lambda value: value.pop("_miros_cache_net"),
        lambda value: value["_miros_cache_net"].pop("digest"),
        lambda value: value["_miros_cache_net"].update(floor="nonsense"),
        lambda value: value.update(_miros_cache_net=7),
    ],
    ids=["added", "removed", "changed", "no metadata", "no digest", "bad floor", "bad metadata"],
)
def test_our_document_edited_by_others_is_foreign(reader: SnapshotReader, path: Path, change: object) -> None:
    value = json.loads(ours())
    change(value)  # type: ignore[operator]
    put(path, json.dumps(value))
    assert reader.read().foreign


def test_our_document_laid_out_anew_stays_ours(reader: SnapshotReader, path: Path) -> None:
    put(path, json.dumps(json.loads(ours()), indent=2))
    snapshot = reader.read()
    assert not snapshot.foreign
    assert snapshot.document.version == parse_file(ours().encode(), path.stat()).document.version


class SlowWriter:
    """Writes the next part of a text whenever somebody sleeps; time is what was slept."""

    def __init__(self, path: Path, parts: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._path, self._parts, self.slept_s = path, iter(parts), 0.0
        path.write_text("")
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(time, "monotonic", lambda: self.slept_s)
        monkeypatch.setattr(time, "time", lambda: path.stat().st_ctime)

    def _sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        with self._path.open("a") as file:
            file.write(next(self._parts, ""))


def test_a_truncating_writer_is_waited_for(reader: SnapshotReader, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(path, '{"a": 0}')
    reader.read()
    SlowWriter(path, [*[""] * 5, '{"a": 1}'], monkeypatch)
    assert reader.read().document.contents == {"a": 1}


def test_writer_that_goes_on_is_waited_for_longer(
    reader: SnapshotReader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SlowWriter(path, json.dumps({"a": list(range(8))}), monkeypatch)
    assert reader.read().document.contents == {"a": list(range(8))}
    assert writer.slept_s > 2 * limits.SETTLE_S


def test_file_broken_long_ago_is_not_waited_for(
    reader: SnapshotReader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("{")
    monkeypatch.setattr(time, "time", lambda: path.stat().st_ctime + 3600)
    monkeypatch.setattr(time, "sleep", lambda _s: pytest.fail("it was waited for"))
    with pytest.raises(DocumentError):
        reader.read()


def test_newer_format_and_second_name_are_refused(reader: SnapshotReader, path: Path) -> None:
    put(path, '{"_miros_cache_net": {"format": 3}}')
    with pytest.raises(FileRefused, match="format 3; this release reads 1 and 2"):
        reader.read()
    put(path, "{}")
    path.with_name("second").hardlink_to(path)
    with pytest.raises(HardLinkRefused):
        reader.read()


def test_what_was_just_stored_is_not_parsed_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from miros_cache_net.store import snapshot
    from miros_cache_net.store.changes import write_of

    store = FileStore(path)
    with store.entered():
        stored = store.apply([write_of({"a": 1})], lambda *_: None)
    monkeypatch.setattr(snapshot, "parse_file", lambda *_: pytest.fail("parsed"))
    assert store.read() is stored
    store.close()


def ours(**contents: Any) -> str:
    stamp = Stamp(1_700_000_000_000, 0, "alpha-1")
    document = Document.unwritten({}).written(contents or {"a": 1}, stamp, 1_700_000_000_000)
    return document.to_text().decode()
