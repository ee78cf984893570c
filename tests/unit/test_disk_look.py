"""What a look at the disk finds, and what it costs."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from miros_cache_net import limits
from miros_cache_net.store import disk_look
from miros_cache_net.store.disk_look import DiskLook, try_disk
from miros_cache_net.testing import ManualClock, wait_until


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def told(look: DiskLook) -> str:
    answers: list[str] = []
    look.tell(answers.append)
    wait_until(lambda: bool(answers), what="an answer")
    return answers[0]


def test_a_good_disk_is_left_as_it_was(path: Path, clock: ManualClock) -> None:
    path.write_text("{}")
    assert told(DiskLook(path, clock)) == ""
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_missing_directory_is_told_with_the_remedy(path: Path, clock: ManualClock) -> None:
    assert "create it" in told(DiskLook(path.parent / "gone" / "cache.json", clock))


def test_look_asks_for_room_but_writes_little(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(bytes(1024 * 1024))
    written: list[int] = []
    write = os.write
    monkeypatch.setattr(disk_look.os, "write", lambda fd, data: written.append(len(data)) or write(fd, data))
    try_disk(path, 4096)
    assert sum(written) == 4096
    status = os.statvfs(path.parent)
    full = os.statvfs_result((*status[:3], 1, 1, *status[5:]))
    monkeypatch.setattr(disk_look.os, "fstatvfs", lambda _fd: full)
    with pytest.raises(OSError) as refused:
        try_disk(path, 4096)
    assert refused.value.errno == errno.ENOSPC
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_good_look_lasts_and_bad_one_does_not(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    outcome: list[OSError] = []

    def looked(at: Path, _most: int) -> None:
        looks.append(at)
        if outcome:
            raise outcome[0]

    monkeypatch.setattr(disk_look, "try_disk", looked)
    look = DiskLook(path, clock)
    assert told(look) == told(look) == ""
    assert len(looks) == 1
    clock.advance(limits.DISK_LOOK_S)
    outcome.append(OSError(errno.ENOSPC, "full"))
    assert "no space" in told(look)
    outcome.clear()
    assert told(look) == ""
    assert len(looks) == 3


def test_hanging_disk_is_told_and_costs_one_thread(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    looks: list[Path] = []

    def hangs(at: Path, _most: int) -> None:
        looks.append(at)
        goes_on.wait(60)

    monkeypatch.setattr(disk_look, "try_disk", hangs)
    look, first = DiskLook(path, clock), list[str]()
    look.tell(first.append)
    clock.advance(limits.DISK_LOOK_HANGS_S)
    assert "has not answered for 5 s" in told(look)
    assert first == []
    goes_on.set()
    wait_until(lambda: first == [""], what="the first to be answered after all")
    assert len(looks) == 1
