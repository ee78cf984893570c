"""The lock file's record survives what people and programs do to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net import limits
from miros_cache_net.document import Stamp, is_node_name
from miros_cache_net.store.sidecar import Sidecar, new_node_name, read_sidecar, sidecar_path, write_sidecar


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


def test_the_node_name_is_made_once_for_a_document(fd: int) -> None:
    record = read_sidecar(fd, "Alpha")
    assert record.node.startswith("alpha-")
    write_sidecar(fd, record)
    assert read_sidecar(fd, "other").node == record.node


def test_a_copied_lock_file_gets_a_name_of_its_own(fd: int, tmp_path: Path) -> None:
    record = read_sidecar(fd, "alpha").stored("d" * 32, None)
    write_sidecar(fd, record)
    copy = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    os.write(copy, os.pread(fd, limits.SIDECAR_BYTES, 0))
    copied = read_sidecar(copy, "alpha")
    os.close(copy)
    assert copied.node != record.node
    assert copied.digest == record.digest


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
    assert record.stored(None, None) == record


@pytest.mark.parametrize("name", ["", "Ünïcödé", "UPPER.case", "a" * 200, "---", "sp ace\n"])
def test_any_host_name_makes_a_node_name(name: str) -> None:
    assert is_node_name(new_node_name(name))
    assert new_node_name(name) != new_node_name(name)


def test_each_document_has_a_hidden_lock_file_of_its_own() -> None:
    names = [Path(sidecar_path(Path("/d") / name)).name for name in ("x.json", ".x.json", "x", "..x.json")]
    assert len(set(names)) == len(names)
    assert all(name.startswith(".") for name in names)
