"""Exclusive access: the kernel's lock, its mark, recovery, take-over, and what it refuses to open."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net import Cache, read_cache
from miros_cache_net.errors import (
    DirectoryMissing,
    FileRefused,
    HardLinkRefused,
    NotRegularRefused,
    PermissionRefused,
    Reason,
    StoreError,
    SymbolicLinkRefused,
    UnsupportedPlatform,
)
from miros_cache_net.store import network_fs
from miros_cache_net.store.lock import ExclusiveAccess, Outcome
from miros_cache_net.store.sidecar import read_sidecar, sidecar_path
from miros_cache_net.testing import ManualClock, wait_until
from tests.threads import NewThreads, logged_here


@pytest.fixture(name="path")
def an_empty_document(path: Path) -> Path:
    path.write_text("{}")
    return path


@pytest.fixture(name="access")
def new_access(path: Path) -> Iterator[ExclusiveAccess]:
    access = ExclusiveAccess(path)
    yield access
    access.close()


@pytest.fixture(name="other")
def new_other(path: Path) -> Iterator[ExclusiveAccess]:
    other = ExclusiveAccess(path)
    yield other
    other.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def holder(path: Path) -> str:
    fd = os.open(Path(sidecar_path(path)), os.O_RDONLY)
    try:
        return read_sidecar(fd).holder
    finally:
        os.close(fd)


def test_file_inside_is_unwritable_and_names_its_holder(access: ExclusiveAccess, path: Path) -> None:
    path.chmod(0o664)
    assert access.try_enter() is Outcome.ENTERED
    access.mark()
    assert mode(path) == 0o444
    assert holder(path).endswith(f":{os.getpid()}")
    access.leave()
    assert (mode(path), holder(path)) == (0o664, "")


def test_only_one_is_inside(access: ExclusiveAccess, other: ExclusiveAccess) -> None:
    assert access.try_enter() is Outcome.ENTERED
    assert other.try_enter() is Outcome.LOCKED
    access.leave()
    assert other.try_enter() is Outcome.ENTERED
    assert access.try_enter() is Outcome.LOCKED


def test_enter_waits_until_the_other_leaves(access: ExclusiveAccess, other: ExclusiveAccess, path: Path) -> None:
    access.enter()
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(other.enter()))
    thread.start()
    wait_until(lambda: _waiters_in_flock(sidecar_path(path)) == 1, what="the other to wait in the kernel")
    assert outcomes == []
    access.leave()
    thread.join(20)
    assert outcomes == [Outcome.ENTERED]


def test_grant_is_told_once_and_taken_up_next(access: ExclusiveAccess, other: ExclusiveAccess) -> None:
    granted = threading.Event()
    access.enter()
    assert other.try_enter() is Outcome.LOCKED
    other.await_grant(granted.set)
    other.await_grant(granted.set)
    assert not granted.is_set()
    access.leave()
    assert granted.wait(20)
    assert access.try_enter() is Outcome.LOCKED
    assert other.try_enter() is Outcome.ENTERED


def test_a_declined_grant_frees_the_lock(access: ExclusiveAccess, other: ExclusiveAccess) -> None:
    granted = threading.Event()
    access.enter()
    other.await_grant(granted.set)
    other.give_back()
    access.leave()
    assert granted.wait(20)
    assert access.try_enter() is Outcome.LOCKED
    other.give_back()
    assert access.try_enter() is Outcome.ENTERED


def test_closing_gives_a_waiting_threads_grant_back(access: ExclusiveAccess, other: ExclusiveAccess) -> None:
    granted = threading.Event()
    threads = NewThreads()
    access.enter()
    other.await_grant(granted.set)
    other.close()
    access.leave()
    wait_until(lambda: not threads.names("lock waiter"), what="the thread to end")
    assert not granted.is_set()
    assert other.try_enter() is Outcome.ENTERED


def test_replaced_lock_file_is_not_trusted(access: ExclusiveAccess, other: ExclusiveAccess, path: Path) -> None:
    access.enter()
    access.leave()
    Path(sidecar_path(path)).unlink()
    assert other.try_enter() is Outcome.ENTERED
    assert access.try_enter() is Outcome.LOCKED


def test_holder_that_died_is_recovered_from_at_once(access: ExclusiveAccess, path: Path) -> None:
    path.chmod(0o640)
    _die_inside(path)
    assert mode(path) == 0o440
    assert access.try_enter() is Outcome.ENTERED
    assert access.recovered
    access.leave()
    assert mode(path) == 0o640
    assert access.try_enter() is Outcome.ENTERED
    assert not access.recovered


def test_unmarked_unwritable_file_is_respected_up_to_bound(path: Path, manual_clock: ManualClock) -> None:
    notices: list[tuple[Reason, str]] = []
    access = ExclusiveAccess(path, clock=manual_clock, take_over_after_s=10, notice=lambda *each: notices.append(each))
    path.chmod(0o400)
    for _ in range(4):
        assert access.try_enter() is Outcome.HELD
        manual_clock.advance(2.5)
    assert access.try_enter() is Outcome.ENTERED
    access.leave()
    assert [reason for reason, _ in notices] == [Reason.TAKEN_OVER]
    assert mode(path) == 0o600
    access.close()


def test_bound_begins_anew_with_a_later_holder(path: Path, manual_clock: ManualClock) -> None:
    access = ExclusiveAccess(path, clock=manual_clock, take_over_after_s=10)
    path.chmod(0o400)
    assert access.try_enter() is Outcome.HELD
    manual_clock.advance(3600)
    assert access.try_enter() is Outcome.HELD
    manual_clock.advance(9.9)
    assert access.try_enter() is Outcome.HELD
    manual_clock.advance(0.1)
    assert access.try_enter() is Outcome.ENTERED
    access.close()


def test_wall_clock_has_no_say_in_take_over(path: Path, manual_clock: ManualClock) -> None:
    access = ExclusiveAccess(path, clock=manual_clock, take_over_after_s=10)
    path.chmod(0o400)
    os.utime(path, (0, 0))
    for _ in range(4):
        assert access.try_enter() is Outcome.HELD
        manual_clock.jump_wall(6_000)
    assert access.try_enter() is Outcome.HELD
    access.close()


def _link(at: Path) -> None:
    target = at.with_name("target")
    target.write_text("theirs")
    at.unlink(missing_ok=True)
    at.symlink_to(target)


def _hard_link(at: Path) -> None:
    target = at.with_name("target")
    target.write_text("theirs")
    at.unlink(missing_ok=True)
    at.hardlink_to(target)


def _fifo(at: Path) -> None:
    at.unlink(missing_ok=True)
    os.mkfifo(at)


def _directory(at: Path) -> None:
    at.unlink(missing_ok=True)
    at.mkdir()


@pytest.mark.parametrize(
    ("plant", "error"),
    [
        (_link, SymbolicLinkRefused),
        (_hard_link, HardLinkRefused),
        (_fifo, NotRegularRefused),
        (_directory, NotRegularRefused),
    ],
)
@pytest.mark.parametrize("where", ["document", "lock"])
def test_planted_file_is_refused_and_left_alone(
    access: ExclusiveAccess, path: Path, plant: object, error: type[StoreError], where: str
) -> None:
    at = path if where == "document" else Path(sidecar_path(path))
    plant(at)  # type: ignore[operator]
    before = os.lstat(at)
    with pytest.raises(error) as raised:
        access.try_enter()
    assert raised.value.reason is error.reason
    with pytest.raises(error):
        access.enter()
    assert os.lstat(at).st_mode == before.st_mode
    if at.with_name("target").exists():
        assert at.with_name("target").read_text() == "theirs"
    at.rmdir() if at.is_dir() and not at.is_symlink() else at.unlink()
    assert access.try_enter() is Outcome.ENTERED


def test_the_reasons_of_refusals_differ() -> None:
    refusals = [SymbolicLinkRefused, HardLinkRefused, NotRegularRefused, FileRefused, DirectoryMissing]
    assert len({each.reason for each in refusals}) == len(refusals)


def test_a_sticky_directory_is_refused(access: ExclusiveAccess, path: Path) -> None:
    path.parent.chmod(0o1777)
    with pytest.raises(FileRefused, match="of its own"):
        access.try_enter()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
@pytest.mark.parametrize(("directory_mode", "lock_mode"), [(0o700, 0o600), (0o755, 0o600), (0o770, 0o660)])
def test_only_users_who_could_replace_document_may_lock(
    access: ExclusiveAccess, path: Path, umask: int, directory_mode: int, lock_mode: int
) -> None:
    path.parent.chmod(directory_mode)
    before = os.umask(umask)
    try:
        access.enter()
    finally:
        os.umask(before)
    assert mode(Path(sidecar_path(path))) == lock_mode


def test_lock_file_in_the_making_is_waited_for(
    access: ExclusiveAccess, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its being given to the group nobody else may open it."""
    lock = Path(sidecar_path(path))
    lock.touch()
    real, refused = os.open, []

    def refuse_twice(name: object, *arguments: int, **options: int) -> int:
        if name == str(lock) and len(refused) < 2:
            refused.append(name)
            raise PermissionError(13, "not yet")
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse_twice)
    assert access.try_enter() is Outcome.ENTERED
    assert len(refused) == 2


def test_lock_file_closed_to_us_is_an_error(
    access: ExclusiveAccess, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Path(sidecar_path(path))
    lock.write_text("a record")
    calls: list[object] = []

    def refuse(name: object, *_: int, **__: int) -> int:
        calls.append(name)
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionRefused, match="check the owner"):
        access.try_enter()
    monkeypatch.undo()
    assert calls == [str(lock)]


def test_documents_that_differ_by_dot_share_no_lock(tmp_path: Path) -> None:
    one, two = ExclusiveAccess(tmp_path / "x.json"), ExclusiveAccess(tmp_path / ".x.json")
    assert (one.try_enter(), two.try_enter()) == (Outcome.ENTERED, Outcome.ENTERED)
    one.close()
    two.close()


# --- fork -------------------------------------------------------------------------------------------------


def test_forked_child_has_no_part_in_parents_lock(access: ExclusiveAccess, other: ExclusiveAccess) -> None:
    access.enter()
    access.mark()
    child = os.fork()
    if child == 0:
        first = access.try_enter()  # the child's own attempt, on a description of its own
        access.leave()
        access.close()
        os._exit(0 if first is Outcome.LOCKED else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert other.try_enter() is Outcome.LOCKED
    access.leave()
    assert other.try_enter() is Outcome.ENTERED


def test_surviving_child_does_not_keep_parents_lock(access: ExclusiveAccess, other: ExclusiveAccess) -> None:
    access.enter()
    with _forked_child():
        access.close()
        assert other.try_enter() is Outcome.ENTERED


def test_forked_child_does_not_keep_abandoned_lock(access: ExclusiveAccess, other: ExclusiveAccess, path: Path) -> None:
    """A thread that still waits in the kernel is given it all the same, on a description that the child shares."""
    access.enter()
    threads = NewThreads()
    other.await_grant(lambda: None)
    wait_until(lambda: _waiters_in_flock(sidecar_path(path)) == 1, what="the helper thread to wait in the kernel")
    other.close()
    with _forked_child():
        access.leave()
        wait_until(lambda: not threads.names("lock waiter"), what="the thread to end")
        assert other.try_enter() is Outcome.ENTERED


def test_forked_child_has_no_waiting_threads_descriptor(
    access: ExclusiveAccess, other: ExclusiveAccess, path: Path
) -> None:
    access.enter()
    other.await_grant(lambda: None)
    wait_until(lambda: _waiters_in_flock(sidecar_path(path)) == 1, what="the helper thread to wait in the kernel")
    other.close()
    child = os.fork()
    if child == 0:
        os._exit(_descriptors_of(sidecar_path(path)))
    assert os.waitpid(child, 0)[1] == 0
    assert _descriptors_of(sidecar_path(path)) == 2


@contextlib.contextmanager
def _forked_child() -> Iterator[None]:
    """One that lives on meanwhile."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def _descriptors_of(path: str) -> int:
    return sum(
        os.path.exists(f"/proc/self/fd/{fd}") and os.path.samefile(f"/proc/self/fd/{fd}", path)
        for fd in os.listdir("/proc/self/fd")
    )


# --- network file systems ---------------------------------------------------------------------------------


def test_a_network_file_system_is_warned_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:21 / /proc rw - proc proc rw\n"
        f"36 35 {os.major(device)}:{os.minor(device)} / /mnt/a rw,noatime master:1 - nfs4 server:/a rw\n"
    )
    monkeypatch.setattr(network_fs, "MOUNTS", mounts)
    for name in ("one.json", "two.json"):
        access = ExclusiveAccess(tmp_path / name)
        access.enter()
        access.close()
    warnings = [each.getMessage() for each in logged_here(caplog) if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "nfs4" in warnings[0]


def test_a_local_file_system_is_not_warned_about(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access = ExclusiveAccess(path)
    access.enter()
    access.close()
    assert logged_here(caplog) == []


def _die_inside(path: Path) -> None:
    child = os.fork()
    if child == 0:
        access = ExclusiveAccess(path)
        access.enter()
        access.mark()
        os._exit(1)
    os.waitpid(child, 0)


def _waiters_in_flock(file: str) -> int:
    """This process's."""
    inode = f":{os.stat(file).st_ino}"
    with open("/proc/locks", encoding="ascii") as locks:
        waiting = [line.split() for line in locks if "->" in line]
    return sum(str(os.getpid()) in fields and any(each.endswith(inode) for each in fields) for fields in waiting)


def test_the_probe_of_waiting_sees_this_very_process(path: Path) -> None:
    one = os.open(path, os.O_RDONLY)
    fcntl.flock(one, fcntl.LOCK_EX)
    assert _waiters_in_flock(str(path)) == 0
    os.close(one)


@pytest.mark.parametrize(
    ("module", "asked"), [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")]
)
def test_green_threads_are_refused_in_one_line(
    module: str, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkey = types.ModuleType(module)
    monkeypatch.setitem(sys.modules, module, monkey)
    setattr(monkey, asked, lambda _name: False)
    Cache(tmp_path / "a.json").update({"a": 1})
    setattr(monkey, asked, lambda _name: True)
    with pytest.raises(UnsupportedPlatform, match="`read_cache` works"):
        Cache(tmp_path / "a.json")
    assert read_cache(tmp_path / "a.json").dict == {"a": 1}
