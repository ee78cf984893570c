"""The lock file's record survives what people and programs do to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net import limits
from miros_cache_net.document.value import Stamp, is_node_name
from miros_cache_net.store import sidecar
from miros_cache_net.store.sidecar import (
    NEVER,
    Sidecar,
    last_discovery,
    new_node_name,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)


@pytest.fixture(name="fd")
def new_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_a_record_is_read_as_it_was_written(fd: int) -> None:
    record = read_sidecar(fd, "Alpha").marked(0o640).stored("d" * 32, Stamp(5, 6, "alpha-1"))
    write_sidecar(fd, record)
    assert read_sidecar(fd) == record
    assert os.fstat(fd).st_size == limits.SIDECAR_BYTES


def test_node_name_is_made_once_per_document(fd: int) -> None:
    record = read_sidecar(fd, "Alpha")
    assert record.node.startswith("alpha-")
    write_sidecar(fd, record)
    assert read_sidecar(fd, "other").node == record.node


def suffix(record: Sidecar) -> str:
    return record.node.rpartition("-")[2]


def test_copied_lock_file_gets_its_own_name(fd: int, tmp_path: Path) -> None:
    record = read_sidecar(fd, "alpha").stored("d" * 32, Stamp(5, 6, "alpha-1"))
    write_sidecar(fd, record)
    copy = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    os.write(copy, os.pread(fd, limits.SIDECAR_BYTES, 0))
    copied = read_sidecar(copy)
    os.close(copy)
    assert suffix(copied) != suffix(record)
    assert copied.node.startswith("alpha-")
    assert (copied.digest, copied.newest, copied.clock) == (record.digest, record.newest, record.clock)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this machine's id stands; what was read of it is forgotten when `cache_clear` is called."""
    path = tmp_path / "machine-id"
    monkeypatch.setattr(sidecar, "_MACHINE_ID_FILES", (str(path),))
    sidecar._machine.cache_clear()
    yield path
    sidecar._machine.cache_clear()


def test_clone_of_the_machine_gets_its_own_name(fd: int, machine: Path) -> None:
    names = []
    for text in ("0123abcd\n", "0123abcd\n", "4567cdef\n"):
        machine.write_text(text)
        sidecar._machine.cache_clear()
        record = read_sidecar(fd, "alpha")
        write_sidecar(fd, record)
        assert "0123abcd" not in record.made_on
        names.append(record.node)
    assert names[0] == names[1]
    assert len(set(names)) == 2


@pytest.mark.parametrize("known_first", [True, False])
def test_unknown_machine_keeps_the_name_in_file(fd: int, machine: Path, known_first: bool) -> None:
    names = []
    for knows in (known_first, not known_first, known_first):
        machine.write_text("0123abcd\n") if knows else machine.unlink(missing_ok=True)
        sidecar._machine.cache_clear()
        record = read_sidecar(fd, "alpha")
        write_sidecar(fd, record)
        names.append(record.node)
    assert len(set(names)) == 1


def test_another_host_name_alone_makes_no_other_name(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sidecar(fd, read_sidecar(fd, "alpha"))
    before = read_sidecar(fd)
    there = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((there[0], "elsewhere", *there[2:])))
    assert read_sidecar(fd) == before


def test_format_1_lock_file_keeps_name_and_clock(fd: int) -> None:
    clock = "018bcfe56800.0003.alpha-0a1b2c3d"
    text = (
        '{"node": "alpha-0a1b2c3d", "made_on": "alpha:12345", "holder": "", "mode": 0, '
        f'"digest": "{"d" * 32}", "clock": "{clock}"}}'
    )
    os.pwrite(fd, text.ljust(limits.SIDECAR_BYTES - 1).encode() + b"\n", 0)
    record = read_sidecar(fd)
    assert record.node.startswith("alpha-")
    assert str(record.clock) == str(record.newest) == clock


@pytest.mark.parametrize(
    "text", [b"", b"\0" * 1024, b"{", b"[]", b"{}", b'{"node":"A B"}', b"\xff", b'{"node":1,"mode":"x"}', b"[" * 900]
)
def test_a_broken_record_is_a_new_one(fd: int, text: bytes) -> None:
    os.pwrite(fd, text, 0)
    record = read_sidecar(fd, "alpha")
    assert (record.holder, record.digest, record.mode) == ("", "", 0)
    assert is_node_name(record.node)


def test_the_clock_in_the_record_never_falls() -> None:
    record = Sidecar("a", "m").stored("x", Stamp(9, 0, "a"))
    assert record.stored("y", Stamp(3, 0, "a")).clock == Stamp(9, 0, "a")
    assert record.saw(Stamp(3, 0, "a")) == record
    seen = record.saw(Stamp(10, 0, "b"))
    assert (seen.clock, seen.newest) == (Stamp(10, 0, "b"), Stamp(9, 0, "a"))


@pytest.mark.parametrize("name", ["", "Ünïcödé", "UPPER.case", "a" * 200, "---", "sp ace\n"])
def test_any_host_name_makes_a_node_name(name: str) -> None:
    assert is_node_name(new_node_name(name))
    assert new_node_name(name) != new_node_name(name)


def test_each_document_has_its_own_lock_file() -> None:
    names = [Path(sidecar_path(Path("/d") / name)).name for name in ("x.json", ".x.json", "x", "..x.json")]
    assert len(set(names)) == len(names)
    assert all(name.startswith(".") for name in names)


def written_text(path: Path, fd: int, **changes: object) -> None:
    """The lock file of the document at `path`, as some other release would leave it."""
    write_sidecar(fd, read_sidecar(fd, "alpha")._replace(digest="d" * 32, discovery=(3, 4)))
    record = json.loads(os.pread(fd, limits.SIDECAR_BYTES, 0))
    record.update(changes)
    text = json.dumps({key: value for key, value in record.items() if value is not None})
    Path(sidecar_path(str(path))).write_text(text)


@pytest.mark.parametrize(
    ("discovery", "read"),
    [
        ([3, 4], (3, 4)),
        (None, NEVER),
        ("x", NEVER),
        ([1], NEVER),
        ([1, -1], NEVER),
        ([1.5, 2], NEVER),
        ([True, 2], NEVER),
    ],
)
def test_last_discovery_is_read_without_a_lock(
    fd: int, tmp_path: Path, discovery: object, read: tuple[int, int]
) -> None:
    written_text(tmp_path / "cache.json", fd, discovery=discovery)
    assert last_discovery(str(tmp_path / "cache.json")) == read
    with open(sidecar_path(str(tmp_path / "cache.json")), "rb") as file:
        record = read_sidecar(file.fileno(), "alpha")
    assert (record.discovery, record.digest) == (read, "d" * 32)


@pytest.mark.parametrize("text", [b"", b"{", b"[]"])
def test_unreadable_record_means_nothing_was_discovered(tmp_path: Path, text: bytes) -> None:
    path = str(tmp_path / "cache.json")
    assert last_discovery(path) == NEVER
    Path(sidecar_path(path)).write_bytes(text)
    assert last_discovery(path) == NEVER


def test_a_full_record_fits_its_place(fd: int) -> None:
    stamp = Stamp(limits.STAMP_WALL_MS, limits.STAMP_COUNTER, "n" * limits.NODE_NAME_BYTES)
    holder = f"{'h' * limits.HOST_NAME_BYTES}:{2**22}"
    record = Sidecar("n" * limits.NODE_NAME_BYTES, holder, holder, 0o777, "d" * 32, stamp, (limits.STAMP_WALL_MS,) * 2)
    write_sidecar(fd, record)
    assert os.fstat(fd).st_size == limits.SIDECAR_BYTES
