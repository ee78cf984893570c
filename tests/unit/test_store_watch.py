"""Being told of changes: by the kernel, slowly where it refuses, and across a lost directory."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.cache import Cache
from miros_cache_net.store import inotify_watch
from miros_cache_net.store import watch as module
from miros_cache_net.store.watch import FileWatch
from miros_cache_net.testing import wait_until
from tests.threads import NewThreads


class Calls:
    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> None:
        self.number += 1


@pytest.fixture(name="calls")
def new_calls() -> Calls:
    return Calls()


@pytest.fixture(name="path")
def in_a_directory_of_its_own(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / "cache.json"
    path.write_text("{}")
    return path


@pytest.fixture
def threads() -> NewThreads:
    return NewThreads()


@pytest.fixture(name="watching")
def new_watching(path: Path, calls: Calls, threads: NewThreads) -> Iterator[Callable[[], FileWatch]]:
    watches: list[FileWatch] = []

    def start() -> FileWatch:
        watches.append(FileWatch(path, calls))
        return watches[-1]

    yield start
    for watch in watches:
        watch.close()
    wait_until(lambda: not threads.names(), what="all threads to be gone")


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def move_in(path: Path) -> None:
    new = path.parents[1] / "new"
    new.write_text("{ }")
    new.rename(path)


@pytest.fixture(name="platform", params=["linux", "darwin"])
def new_platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is not Linux is watched through watchdog, which knows Linux as well."""
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform=request.param))
    return str(request.param)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    "change",
    [
        lambda path: replace(path, "{ }"),
        lambda path: path.write_text('{"a": 1}'),
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("away")),
        move_in,
    ],
    ids=["replaced", "written in place", "removed", "moved away", "replaced from elsewhere"],
)
def test_the_kernel_tells_of_every_change_of_contents(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, change: Callable[[Path], Any]
) -> None:
    watching()
    change(path)
    wait_until(lambda: calls.number > 0, what="the call")


def test_a_write_of_ours_wakes_a_watch_once(watching: Callable[[], FileWatch], path: Path, calls: Calls) -> None:
    with Cache(path) as cache:
        cache.write({})
        watching()
        for number in range(5):
            cache.write({"n": number})
            wait_until(lambda number=number: calls.number > number, what="the call")
    replace(path, "[]")  # events come in order: this one is the last
    wait_until(lambda: calls.number > 5, what="the last call")
    assert calls.number == 6


def test_mode_and_other_files_wake_no_watch(watching: Callable[[], FileWatch], path: Path, calls: Calls) -> None:
    watching()
    path.chmod(0o444)
    path.with_name("other").write_text("x")
    path.with_name("other").rename(path.with_name("another"))
    path.chmod(0o644)
    path.read_text()
    replace(path.with_name("last"), "{}")
    watching()
    replace(path, "[]")  # events come in order: this one is the last
    wait_until(lambda: calls.number >= 2, what="both watches")
    assert calls.number <= 4


def _refuse_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(inotify_watch, "INotify", refused)
    monkeypatch.setattr(limits, "SLOW_STAT_S", 0.005)
    module._said.clear()


def test_slow_look_takes_over_beyond_kernels_limit(
    watching: Callable[[], FileWatch],
    path: Path,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _refuse_instances(monkeypatch)
    watching()
    watching()
    for number in range(3):
        before = calls.number
        replace(path, f'{{"n": {number}, "x": "{"x" * number}"}}')
        wait_until(lambda before=before: calls.number >= before + 2, what="both to notice")
    warnings = [each for each in caplog.messages if str(path.parent) in each]
    assert len(warnings) == 1
    assert "fs.inotify.max_user_instances" in warnings[0]


def test_process_without_descriptors_looks_slowly_too(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, threads: NewThreads
) -> None:
    monkeypatch.setattr(limits, "SLOW_STAT_S", 0.005)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        watching()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert threads.names() == [f"slow look {path.name}"]
    replace(path, '{"slow": 1}')
    wait_until(lambda: calls.number > 0, what="the slow look")


def test_a_missing_directory_is_waited_for(
    watching: Callable[[], FileWatch],
    path: Path,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "SLOW_STAT_S", 0.005)
    shutil.rmtree(path.parent)
    watching()
    path.parent.mkdir()
    wait_until(lambda: calls.number > 0, what="the directory")
    before = calls.number
    replace(path, "{}")
    wait_until(lambda: calls.number > before, what="the file in it")
    assert [each for each in caplog.messages if str(path.parent) in each] == []


@pytest.mark.usefixtures("platform")
def test_directory_that_comes_back_is_watched_again(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, threads: NewThreads
) -> None:
    monkeypatch.setattr(limits, "SLOW_STAT_S", 0.005)
    watching()
    for _ in range(3):
        shutil.rmtree(path.parent)
        wait_until(lambda: threads.names("slow look"), what="the slow look")
        before = calls.number
        path.parent.mkdir()
        wait_until(lambda before=before: calls.number > before, what="the directory")
        wait_until(lambda: not threads.names("slow look"), what="the kernel")
        before = calls.number
        replace(path, "{}")
        wait_until(lambda before=before: calls.number > before, what="the file in it")


@pytest.mark.usefixtures("platform")
def test_watch_may_be_closed_by_its_own_call(path: Path, threads: NewThreads) -> None:
    watches: list[FileWatch] = []
    closed = threading.Event()

    def close() -> None:
        watches[0].close()
        closed.set()

    watches.append(FileWatch(path, close))
    replace(path, "[]")
    assert closed.wait(20)
    wait_until(lambda: not threads.names(), what="all threads to be gone")


def test_watch_may_be_closed_repeatedly_by_any_thread(watching: Callable[[], FileWatch], path: Path) -> None:
    watch = watching()
    replace(path, "[]")
    closers = [threading.Thread(target=watch.close) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(20)
    assert not any(closer.is_alive() for closer in closers)


def test_events_dropped_by_the_kernel_count_as_change(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow = inotify_watch.parse_events(struct.pack("iIII", -1, inotify_watch.flags.Q_OVERFLOW, 0, 0))
    monkeypatch.setattr(inotify_watch, "parse_events", lambda _data: overflow)
    watching()
    path.with_name("other").write_text("x")
    wait_until(lambda: calls.number > 0, what="the call")


def is_watched_again_once_it_is_back(path: Path, calls: Calls, threads: NewThreads) -> None:
    wait_until(lambda: threads.names("slow look"), what="the slow look")
    path.parent.mkdir()
    wait_until(lambda: not threads.names("slow look"), what="the kernel")
    before = calls.number
    replace(path, "{}")
    wait_until(lambda: calls.number > before, what="the file in it")


def test_directory_with_open_files_is_missed_too(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, threads: NewThreads
) -> None:
    # the kernel tells of its removal only when the last of them is closed
    monkeypatch.setattr(limits, "SLOW_STAT_S", 0.01)
    with path.open():
        watching()
        shutil.rmtree(path.parent)
        is_watched_again_once_it_is_back(path, calls, threads)


def test_directory_replaced_by_another_is_watched(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, threads: NewThreads
) -> None:
    monkeypatch.setattr(limits, "SLOW_STAT_S", 0.01)
    watching()
    path.parent.rename(path.parent.with_name("elsewhere"))
    is_watched_again_once_it_is_back(path, calls, threads)


def test_forked_child_leaves_the_parent_its_watch(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakes: list[None] = []
    hear = inotify_watch.InotifyWatch._hear

    def counted(watch: inotify_watch.InotifyWatch) -> bool:
        wakes.append(None)
        return hear(watch)

    monkeypatch.setattr(inotify_watch.InotifyWatch, "_hear", counted)
    watch = watching()
    child = os.fork()
    if child == 0:
        watch.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    replace(path, "[]")
    wait_until(lambda: calls.number > 0, what="the call")
    watch.close()
    assert len(wakes) <= 10, "nothing but the file and the end wakes it"


def test_watch_given_up_by_the_kernel_still_ends(
    watching: Callable[[], FileWatch], path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(data: bytes) -> list[Any]:
        return [each for each in parse(data) if not each.mask & (flags.IGNORED | flags.DELETE_SELF)]

    parse, flags = inotify_watch.parse_events, inotify_watch.flags
    monkeypatch.setattr(inotify_watch, "parse_events", forgetful)
    watch = watching()
    shutil.rmtree(path.parent)
    wait_until(lambda: calls.number > 0, what="the file's removal")
    watch.close()


def test_raising_call_does_not_end_the_watch(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[None] = []

    def raising() -> None:
        calls.append(None)
        raise RuntimeError("planted")

    watch = FileWatch(path, raising)
    try:
        for number in range(1, 3):
            replace(path, "[]")
            wait_until(lambda number=number: len(calls) >= number, what="the call")
    finally:
        watch.close()
    assert "the callback for a change failed" in caplog.text
