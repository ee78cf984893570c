"""Full or read-only disks, immutable files, vanished directories, planted links: an error event, then recovery."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.cli.checks.file_checks import check_file
from miros_cache_net.cli.checks.finding import FAILED, OK, WARNING
from miros_cache_net.errors import FileRefused, FileSystemReadOnly, NoSpace
from miros_cache_net.events import CACHE, CACHE_ERROR, CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.testing import wait_until
from tests.charts.recorder import Recorder

pytestmark = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can mount")


@pytest.fixture(name="disk")
def new_disk() -> Iterator[Path]:
    """A file system of 64 KiB."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


class Observed:
    """A chart on a file, and what it publishes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = Recorder(CACHE, CACHE_ERROR)
        self.chart = CacheFileChart(path)

    def stop(self) -> None:
        self.chart.stop()
        self.heard.stop()

    def _next(self, signal_name: str, ask: Callable[[], None]) -> Any:
        before = sum(e.signal_name == signal_name for e in self.heard.events)
        ask()
        self.heard.wait_for(lambda events: sum(e.signal_name == signal_name for e in events) > before)
        return [e.payload for e in self.heard.events if e.signal_name == signal_name][before]

    def error_of_write(self, contents: dict[str, Any]) -> Any:
        return self._next(CACHE_ERROR, lambda: self.heard.publish(event(CACHE_FILE_WRITE, contents)))

    def error_of_read(self) -> Any:
        return self._next(CACHE_ERROR, lambda: self.heard.publish(event(CACHE_FILE_READ)))

    def read(self) -> Any:
        return self._next(CACHE, lambda: self.heard.publish(event(CACHE_FILE_READ)))

    def write_and_read(self, contents: dict[str, Any]) -> Any:
        """What is read once that was written; an answer to an earlier read may still come first."""
        self.heard.publish(event(CACHE_FILE_WRITE, contents))
        return next((answer for _ in range(3) if (answer := self.read().dict) == contents), {})


@pytest.fixture(name="observe")
def new_observe() -> Iterator[Callable[[Path], Observed]]:
    all_of_them: list[Observed] = []

    def observe(path: Path) -> Observed:
        all_of_them.append(Observed(path))
        return all_of_them[-1]

    yield observe
    for each in all_of_them:
        each.stop()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def test_full_disk_keeps_document_and_recovers(disk: Path, observe: Callable[[Path], Observed]) -> None:
    it = observe(disk / "cache.json")
    assert it.write_and_read({"a": 1}) == {"a": 1}
    filler = fill(disk)
    error = it.error_of_write({"a": 2, "text": "x" * 20_000})
    assert (error.reason, error.file_name) == ("no_space", "cache.json")
    assert "free some" in error.message
    assert it.read().dict == {"a": 1}
    assert sorted(os.listdir(disk)) == [".cache.json.lock", "cache.json", "filler"]
    filler.unlink()
    assert it.write_and_read({"a": 3}) == {"a": 3}


def test_half_written_document_on_full_disk_is_dropped(disk: Path) -> None:
    with Cache(disk / "cache.json") as cache:
        cache.write({"a": 1})
        with pytest.raises(NoSpace):
            cache.write({"a": 2, "text": "x" * 100_000})
        assert cache.read().dict == {"a": 1}
        assert sorted(os.listdir(disk)) == [".cache.json.lock", "cache.json"]
        assert cache.write({"a": 3}).dict == {"a": 3}


def test_disk_full_from_the_beginning_recovers(disk: Path, observe: Callable[[Path], Observed]) -> None:
    filler = fill(disk)
    it = observe(disk / "cache.json")
    assert it.error_of_read().reason == "no_space"
    filler.unlink()
    assert it.write_and_read({"a": 1}) == {"a": 1}


def test_read_only_file_system_is_read_and_recovers(disk: Path, observe: Callable[[Path], Observed]) -> None:
    with Cache(disk / "cache.json") as cache:
        cache.write({"a": 1})
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    it = observe(disk / "cache.json")
    assert it.read().dict == {"a": 1}
    assert it.error_of_write({"a": 2}).reason == "read_only"
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert it.write_and_read({"a": 3}) == {"a": 3}


def found(path: Path, check: str) -> tuple[str, str]:
    """What `doctor` says of it."""
    return next((each.outcome, f"{each.detail}; {each.fix}") for each in check_file(path) if each.check == check)


def test_doctor_finds_a_full_disk_before_writes_do(disk: Path) -> None:
    path = disk / "cache.json"
    with Cache(path) as cache:
        cache.write({"a": "x" * 10_000})
        outcome, detail = found(path, "disk")
        assert (outcome, "KiB left; free some" in detail) == (WARNING, True)
        fill(disk)
        outcome, detail = found(path, "disk")
        assert (outcome, "no space left; free some" in detail) == (FAILED, True)
        with pytest.raises(NoSpace, match="free some"):
            cache.update({"b": 1})
    assert sorted(os.listdir(disk)) == [".cache.json.lock", "cache.json", "filler"]


def test_file_system_of_unknown_size_is_not_full(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "ramfs", "ramfs", tmp_path], check=True)
    try:
        assert found(tmp_path / "cache.json", "disk")[0] == OK
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_read_only_mount_errors_name_the_remedy(disk: Path) -> None:
    path = disk / "cache.json"
    with Cache(path) as cache:
        cache.write({"a": 1})
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    outcome, detail = found(path, "directory")
    assert (outcome, "mount it writable" in detail) == (FAILED, True)
    with pytest.raises(FileSystemReadOnly, match="mount it writable"):
        Cache(path).update({"b": 1})


@pytest.mark.parametrize("options", ["bind", "bind,ro"])
def test_bind_mounted_file_is_read_and_refuses_writes(tmp_path: Path, options: str) -> None:
    path, outside = tmp_path / "cache.json", tmp_path / "outside.json"
    Cache(outside).write({"a": 1})
    path.touch()
    assert found(outside, "file")[0] == OK
    subprocess.run(["mount", "-o", options, outside, path], check=True)
    try:
        with Cache(path) as cache:
            assert cache.read().dict == {"a": 1}
            outcome, detail = found(path, "file")
            assert (outcome, "mount its directory instead" in detail) == (FAILED, True)
            with pytest.raises(FileRefused, match="mount its directory instead"):
                cache.update({"b": 1})
            assert cache.read().dict == {"a": 1}
        assert sorted(os.listdir(tmp_path)) == [".cache.json.lock", ".outside.json.lock", "cache.json", "outside.json"]
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize("which", ["cache.json", ".cache.json.lock", "."])
def test_immutable_file_lock_or_directory_is_named(observe: Callable[[Path], Observed], which: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Cache(directory / "cache.json") as cache:
            cache.write({"a": 1})
        subprocess.run(["chattr", "+i", directory / which], check=True)
        try:
            it = observe(directory / "cache.json")
            error = it.error_of_write({"a": 2})
            assert (error.reason, "lsattr" in error.message) == ("immutable", True)
            assert it.read().dict == {"a": 1}
        finally:
            subprocess.run(["chattr", "-i", directory / which], check=True)
        assert it.write_and_read({"a": 3}) == {"a": 3}
        wait_until(lambda: (directory / "cache.json").stat().st_mode & 0o222, what="the chart to leave")


def test_vanished_directory_is_reported_until_it_returns(tmp_path: Path, observe: Callable[[Path], Observed]) -> None:
    directory = tmp_path / "there"
    it = observe(directory / "cache.json")
    assert it.error_of_write({"a": 1}).reason == "no_directory"
    directory.mkdir()
    assert it.write_and_read({"a": 2}) == {"a": 2}
    shutil.rmtree(directory)
    assert it.error_of_write({"a": 3}).reason == "no_directory"
    directory.mkdir()
    assert it.write_and_read({"a": 4}) == {"a": 4}


def test_planted_link_or_pipe_is_reported_and_recovered(tmp_path: Path, observe: Callable[[Path], Observed]) -> None:
    path = tmp_path / "cache.json"
    it = observe(path)
    other = tmp_path / "other"
    other.write_text('{"theirs": 1}')
    plants: dict[str, Callable[[], None]] = {
        "symlink": lambda: path.symlink_to(other),
        "hard_link": lambda: path.hardlink_to(other),
        "not_regular": lambda: os.mkfifo(path),
    }
    for reason, plant in plants.items():
        path.unlink()
        plant()
        assert it.error_of_write({"a": 1}).reason == reason
        assert it.error_of_read().reason == reason
        assert other.read_text() == '{"theirs": 1}'
        path.unlink()
        assert it.write_and_read({"after": reason}) == {"after": reason}
