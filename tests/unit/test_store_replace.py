"""Replacement of the document: whole, in the order that survives power loss, with mode and group kept."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.errors import FileRefused
from miros_cache_net.store import rights as module
from miros_cache_net.store.paths import opened_directory
from miros_cache_net.store.replace import put_in_place, set_aside, sweep
from miros_cache_net.store.rights import Rights, new_file_mode
from tests.descriptors import NewDescriptors


def put(path: Path, text: bytes = b"new", *, mode: int = 0o644, group: int = -1) -> tuple[int, int]:
    with opened_directory(path) as directory:
        fd, mode = put_in_place(directory, path.name, text, mtime_ms=1_700_000_000_123, rights=Rights(-1, group, mode))
    os.close(fd)
    return path.stat().st_ino, mode


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


@pytest.fixture(name="path")
def an_old_document(path: Path) -> Path:
    path.write_bytes(b"old")
    return path


def test_reader_keeps_the_old_document_whole(path: Path) -> None:
    with path.open("rb") as old:
        put(path)
        assert old.read() == b"old"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["cache.json"]


def test_new_inode_is_unwritable_with_discovery_time(path: Path) -> None:
    put(path, mode=0o640)
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o440
    assert status.st_mtime_ns == 1_700_000_000_123_000_000


def test_group_rights_go_to_no_other_group(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert put(path, mode=0o664, group=os.getgid())[1] == 0o664

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "refused")

    monkeypatch.setattr(os, "fchown", refused)
    monkeypatch.setattr(os, "setxattr", refused)
    assert put(path, mode=0o664, group=os.getgid() + 1)[1] == 0o604


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "utime", "fchmod"])
def test_failure_leaves_old_document_and_no_temporary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(5, "fails")

    descriptors = NewDescriptors()
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="fails"):
        put(path)
    monkeypatch.undo()
    assert names(path.parent) == ["cache.json"]
    assert path.read_bytes() == b"old"
    assert descriptors.links() == []


def test_short_writes_go_on_until_all_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    put(path, b"0123456789" * 10)
    assert path.read_bytes() == b"0123456789" * 10


def test_a_failed_fsync_is_not_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fails(fd: int) -> None:
        calls.append(fd)
        raise OSError(5, "fails")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="fails"):
        put(path)
    assert len(calls) == 1


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
@pytest.mark.parametrize("way", ["told", "tried"])
def test_new_file_gets_the_usual_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int, way: str) -> None:
    if way == "tried":
        monkeypatch.setattr(module, "PROCESS_STATUS", tmp_path / "missing")
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_text("")
        assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == new_file_mode()
    finally:
        os.umask(before)


def test_sweep_removes_only_this_documents_temporary_files(path: Path) -> None:
    mine = f".cache.json.tmp-123-{'0' * 16}"
    others = [f".other.json.tmp-123-{'0' * 16}", "cache.json.tmp-1-2", ".cache.json.tmp-x", ".cache.json.lock"]
    for name in (mine, *others):
        (path.parent / name).write_text("x")
    sweep(path)
    assert names(path.parent) == sorted(["cache.json", *others])


def test_files_set_aside_keep_their_bytes(path: Path) -> None:
    asides = []
    for number in range(3):
        path.write_bytes(b"%d" % number)
        asides.append(Path(set_aside(path)[0]))
    assert [each.read_bytes() for each in asides] == [b"0", b"1", b"2"]
    assert not path.exists()


def test_first_file_set_aside_outlives_the_cap(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SET_ASIDE_FILES", 3)
    first, second = (_set_aside_at(path, f"2026010{day}T000000Z") for day in (1, 2))
    third, gone = set_aside(path)
    assert gone == []
    path.write_bytes(b"again")
    fourth, gone = set_aside(path)
    assert gone == [str(second)]
    assert names(path.parent) == sorted(Path(each).name for each in (first, third, fourth))


def test_files_of_similar_names_are_never_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SET_ASIDE_FILES", 2)
    notes = [_set_aside_at(path, at, end) for at, end in (("my", "notes"), ("20260101T000000Z", "abcdef.bak"))]
    ours = [_set_aside_at(path, f"2026010{day}T000000Z") for day in (1, 2, 3)]
    aside, gone = set_aside(path)
    assert sorted(gone) == [str(each) for each in ours[1:]]
    assert names(path.parent) == sorted([ours[0].name, Path(aside).name, *(each.name for each in notes)])


def test_failed_setting_aside_removes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SET_ASIDE_FILES", 2)
    for day in (1, 2, 3):
        _set_aside_at(path, f"2026010{day}T000000Z")
    path.unlink()
    before = names(path.parent)
    with pytest.raises(FileNotFoundError):
        set_aside(path)
    assert names(path.parent) == before


def _set_aside_at(path: Path, at: str, end: str = "abcdef") -> Path:
    aside = path.with_name(f"{path.name}.corrupt-{at}-{end}")
    aside.write_bytes(b"set aside")
    return aside


def test_exchanged_temporary_file_is_not_taken_for_ours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign, really = path.with_name("foreign"), os.open
    foreign.write_bytes(b"foreign")
    foreign.chmod(0o400)

    def exchanging(name: Any, arguments: int, *mode: int, **options: Any) -> int:
        if arguments & os.O_ACCMODE == os.O_RDONLY and ".tmp-" in str(name):
            os.replace(foreign, path.with_name(name))
        return really(name, arguments, *mode, **options)

    descriptors = NewDescriptors()
    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(FileRefused, match="replaced while"):
        put(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert descriptors.links() == []
