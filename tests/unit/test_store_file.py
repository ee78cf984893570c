"""`FileStore`: changes inside the access; strangers' writes, restored copies and left-overs looked after."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import FileIOError, PayloadError, Reason
from miros_cache_net.settings.which_file import cache_path
from miros_cache_net.store.changes import Change, Destroy, Merge, Modify, update_of, write_of
from miros_cache_net.store.file_store import FileStore, backoff_s
from miros_cache_net.store.snapshot import Snapshot
from miros_cache_net.testing import ManualClock


@pytest.fixture(name="notices")
def new_notices() -> list[tuple[Reason, str]]:
    return []


@pytest.fixture(name="store")
def new_store(path: Path, notices: list[tuple[Reason, str]], manual_clock: ManualClock) -> Iterator[FileStore]:
    store = FileStore(path, clock=manual_clock, node_name="alpha", notice=lambda *each: notices.append(each))
    yield store
    store.close()


def change(store: FileStore, *changes: Change) -> Snapshot:
    failed: list[tuple[Change, Exception]] = []
    with store.entered():
        snapshot = store.apply(changes, lambda *each: failed.append(each))
    assert failed == []
    return snapshot


def load(store: FileStore) -> Snapshot:
    with store.entered():
        return store.load()


def calls_of(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> list[str]:
    """The order in which the named functions of `os` are called from now on; on a directory: `name(dir)`."""
    seen: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            on_directory = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            seen.append(f"{name}(dir)" if on_directory else name)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in names:
        watch(name)
    return seen


def test_system_calls_are_in_power_safe_order(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    change(store, write_of({"a": 1}))
    seen = calls_of(monkeypatch, ["write", "fsync", "rename", "fchmod", "pwrite"])
    with store.entered():
        store.apply([write_of({"a": 2})], lambda *_: None)
        before_it_returns = ["pwrite", "fchmod", "fchmod", "fchmod", "write", "fsync", "rename", "fsync(dir)"]
        assert seen == before_it_returns
    assert seen[len(before_it_returns) :] == ["fchmod", "pwrite"]


def test_several_changes_are_one_replacement(store: FileStore, path: Path) -> None:
    change(store, write_of({"a": 1}))
    snapshot = change(store, update_of({"b": 2}), update_of({"c": 3}, ["a"]))
    assert snapshot.document.contents == {"b": 2, "c": 3}
    assert path.stat().st_ino == snapshot.status.st_ino  # type: ignore[union-attr]


def test_raising_change_is_returned_and_others_are_made(store: FileStore) -> None:
    failed: list[Exception] = []

    def spoil(_: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no")

    too_big = update_of({"big": "x" * limits.DOCUMENT_BYTES})
    with store.entered():
        changes = [write_of({"a": 1}), Modify(spoil), too_big, update_of({"b": 2})]
        store.apply(changes, lambda _, error: failed.append(error))
    assert [type(error) for error in failed] == [RuntimeError, PayloadError]
    assert store.read().document.contents == {"a": 1, "b": 2}


def test_a_merge_that_adds_nothing_writes_nothing(store: FileStore, path: Path) -> None:
    stored = change(store, write_of({"a": 1}))
    before = path.stat().st_ino
    change(store, Merge(stored.document), Merge(Document.unwritten({"z": 1})))
    assert path.stat().st_ino == before


def test_destroy_empties_and_expires(store: FileStore, manual_clock: ManualClock) -> None:
    change(store, write_of({"a": 1}))
    snapshot = change(store, Destroy())
    assert snapshot.document.contents == {}
    assert snapshot.document.expired(manual_clock.wall_ms())


def test_later_write_beats_default_of_missing_file(path: Path) -> None:
    store = FileStore(path, default={"default": 1})
    assert load(store).document.contents == {"default": 1}
    assert not store.read().document.is_written
    change(store, update_of({"a": 1}))
    assert store.read().document.contents == {"default": 1, "a": 1}
    assert store.read().document.is_written
    store.close()


# --- what strangers do ------------------------------------------------------------------------------------


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def in_place_with_flock(path: Path, text: str) -> None:
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate()
        file.write(text)


def in_place_with_lockf(path: Path, text: str) -> None:
    with path.open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.truncate()
        file.write(text)


def by_rename(path: Path, text: str) -> None:
    new = path.with_name("stranger.tmp")
    new.write_text(text)
    new.rename(path)


def by_mode_bit(path: Path, text: str) -> None:
    with path.open("w") as file:
        path.chmod(0o444)
        file.write(text)
    path.chmod(0o644)


STRANGERS = [in_place, in_place_with_flock, in_place_with_lockf, by_rename, by_mode_bit]


@pytest.mark.parametrize("write", STRANGERS)
@pytest.mark.parametrize("keep_metadata", [True, False])
def test_strangers_write_counts_from_its_moment(
    store: FileStore, path: Path, write: Any, keep_metadata: bool, manual_clock: ManualClock
) -> None:
    old = change(store, write_of({"a": 1, "b": 2}))
    manual_clock.advance(100_000_000)
    value = json.loads(path.read_text()) if keep_metadata else {}
    write(path, json.dumps({**value, "a": "his"}))
    os.utime(path, ns=(0, 1_799_999_999_000_000_000))
    snapshot = load(store)
    assert not snapshot.foreign
    assert snapshot.document.contents["a"] == "his"
    assert snapshot.document.floor.stamp.node == store.access.record.node
    assert snapshot.document.floor.discovered_at_ms == 1_799_999_999_000
    assert snapshot.document.last_stamp > old.document.last_stamp
    assert snapshot.document.merged(old.document) == snapshot.document
    assert load(store).document == snapshot.document


def test_strangers_write_from_the_past_still_wins(store: FileStore, path: Path) -> None:
    old = change(store, write_of({"a": 1}))
    in_place(path, '{"a": "his"}')
    os.utime(path, (1, 1))
    snapshot = load(store)
    assert old.document.merged(snapshot.document).contents == {"a": "his"}


def test_strangers_write_from_the_future_counts_as_now(store: FileStore, path: Path, manual_clock: ManualClock) -> None:
    change(store, write_of({"a": 1}))
    in_place(path, '{"a": "his"}')
    document = load(store).document
    assert (document.contents, document.floor.discovered_at_ms) == ({"a": "his"}, manual_clock.wall_ms())
    assert load(store).document == document


def test_restored_old_copy_counts_as_a_new_write(store: FileStore, path: Path, manual_clock: ManualClock) -> None:
    change(store, write_of({"a": "old"}))
    copy = path.read_bytes()
    manual_clock.advance(10)
    newer = change(store, write_of({"a": "new"}))
    manual_clock.advance(10)
    path.write_bytes(copy)
    restored = load(store).document
    assert restored.contents == {"a": "old"}
    assert restored.age_s(manual_clock.wall_ms()) == 20
    assert newer.document.merged(restored).contents == {"a": "old"}
    assert load(store).document == restored


def of_another_boot(record: bytes) -> bytes:
    """The lock file's record, as it would have been written before this machine started."""
    text = json.loads(record) | {"boot": "0" * 16}
    return json.dumps(text).encode().ljust(limits.SIDECAR_BYTES - 1) + b"\n"


def test_document_newer_than_the_record_is_taken(store: FileStore, path: Path, manual_clock: ManualClock) -> None:
    """After a power cut the record, which is never synced, may be older than the document, which is."""
    change(store, write_of({"a": 1}))
    lock = path.with_name(".cache.json.lock")
    record = lock.read_bytes()
    manual_clock.advance(1)
    newer = change(store, write_of({"a": 2}))
    lock.write_bytes(of_another_boot(record))
    manual_clock.advance(1)
    assert load(store).document == newer.document


def test_merge_before_a_power_cut_is_kept(store: FileStore, path: Path, manual_clock: ManualClock) -> None:
    """Its greatest stamp is in the record that survived: that it is older cannot be told from the stamps."""
    earlier_elsewhere = Document.unwritten({}).updated(
        {"b": 2}, (), Stamp(manual_clock.wall_ms() - 5_000, 0, "other-1"), 1
    )
    change(store, update_of({"a": 1}))
    lock = path.with_name(".cache.json.lock")
    record = lock.read_bytes()
    merged = change(store, Merge(earlier_elsewhere))
    assert merged.document.contents == {"a": 1, "b": 2}
    lock.write_bytes(of_another_boot(record))
    assert load(store).document == merged.document
    assert load(store).document == merged.document


def test_merge_before_a_death_inside_is_kept(store: FileStore, path: Path, manual_clock: ManualClock) -> None:
    """The one who died had replaced the document, and not yet said so in the lock file."""
    earlier_elsewhere = Document.unwritten({}).updated(
        {"b": 2}, (), Stamp(manual_clock.wall_ms() - 5_000, 0, "other-1"), 1
    )
    change(store, update_of({"a": 1}))
    child = os.fork()
    if child == 0:
        store.enter()
        store.access.mark()
        store.apply([Merge(earlier_elsewhere)], lambda *_: None)
        os._exit(1)
    os.waitpid(child, 0)
    merged = load(store).document
    assert merged.contents == {"a": 1, "b": 2}
    assert load(store).document == merged


def test_lost_lock_file_changes_nothing_in_document(store: FileStore, path: Path) -> None:
    stored = change(store, write_of({"a": 1}))
    store.close()
    path.with_name(".cache.json.lock").unlink()
    assert load(store).document == stored.document


def die_inside(store: FileStore, left_over: Path) -> None:
    """As a process does that is killed while it writes its temporary file."""
    child = os.fork()
    if child == 0:
        store.access.enter()
        store.access.mark()
        left_over.write_text("x")
        os._exit(1)
    os.waitpid(child, 0)


def test_left_over_temporary_files_are_removed(store: FileStore, path: Path) -> None:
    left_over = path.with_name(f".cache.json.tmp-1-{'0' * 16}")
    left_over.write_text("x")
    load(store)
    assert not left_over.exists()
    die_inside(store, left_over)
    load(store)
    assert not left_over.exists()


def test_who_leaves_at_once_leaves_the_sweeping_to_the_next(store: FileStore, path: Path) -> None:
    """As a process does whose change another has stored, and then one more was killed."""
    change(store, write_of({"a": 1}))
    left_over = path.with_name(f".cache.json.tmp-1-{'0' * 16}")
    die_inside(store, left_over)
    store.enter()
    store.leave()
    assert path.stat().st_mode & 0o222
    load(store)
    assert not left_over.exists()


def test_failed_directory_fsync_leaves_the_file_writable(
    store: FileStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(store, write_of({"a": 1}))
    fsync = os.fsync

    def fails(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(5, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(FileIOError, match="dmesg"):
        change(store, write_of({"a": 2}))
    monkeypatch.undo()
    assert path.stat().st_mode & 0o222
    assert load(store).document.contents in ({"a": 1}, {"a": 2})
    assert store.access.recovered


def test_document_left_unwritable_by_another_is_replaced(
    store: FileStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(store, write_of({"a": 1}))
    path.chmod(0o444)
    before = path.stat().st_ino
    mine = {before}
    fchmod = os.fchmod

    def only_mine(fd: int, mode: int) -> None:
        if os.fstat(fd).st_ino in mine:
            raise PermissionError(1, "not the owner")
        fchmod(fd, mode)

    monkeypatch.setattr(os, "fchmod", only_mine)
    impatient = FileStore(path, take_over_after_s=0)
    assert load(impatient).document.contents == {"a": 1}
    impatient.close()
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o222


# --- small things -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", range(8))
def test_random_back_off_is_bounded_by_five_seconds(failures: int) -> None:
    bound = (0.1, 1.3, 2.5, 3.7, 5.0, 5.0, 5.0, 5.0)[failures]
    waits = [backoff_s(failures) for _ in range(500)]
    assert 0.001 <= min(waits) < bound / 4
    assert bound * 3 / 4 < max(waits) <= bound


def test_path_is_given_or_from_environment_or_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIROS_CACHE_FILE", raising=False)
    assert cache_path(None) == tmp_path / ".miros_rabbitmq_cache.json"
    monkeypatch.setenv("MIROS_CACHE_FILE", "here.json")
    assert cache_path(None) == tmp_path / "here.json"
    assert cache_path("a/../b.json") == tmp_path / "b.json"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path("~/c.json") == tmp_path / "c.json"


def test_stamps_rise_although_the_clock_does_not(store: FileStore, manual_clock: ManualClock) -> None:
    stamps: list[Stamp] = []
    for number in range(20):
        if number == 10:
            manual_clock.jump_wall(-30_000)
        stamps.append(change(store, write_of({"n": number})).document.last_stamp)
    assert stamps == sorted(set(stamps))
