"""Group commit: who waits is stored with the one inside, is told what is true, and depends on nobody else."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.document.value import Document
from miros_cache_net.errors import PayloadError
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.changes import Modify, update_of, write_of
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.group_commit import Batch
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.lock import Outcome
from miros_cache_net.testing import wait_until
from tests.threads import NewThreads

Commit = Callable[[Cache], CacheReadPayload]


@pytest.fixture(name="path")
def a_written_document(path: Path) -> Path:
    with Cache(path) as cache:
        cache.write({"first": True})
    return path


@pytest.fixture(name="batch_path")
def new_batch_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.batch")


@pytest.fixture(name="crowd")
def new_crowd(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    # a disk that stalls for seconds must not have them give up a leader who is at work
    monkeypatch.setattr(limits, "BATCH_WAIT_S", 60.0)
    crowd = Crowd(path)
    yield crowd
    crowd.let_in()


class Crowd:
    """Writers of their own descriptors, as processes have them, kept waiting while the test is inside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = ThreadPoolExecutor(32)
        self._inside = FileStore(path)
        self._access = self._inside.entered()
        self._access.__enter__()
        self._is_inside = True

    def waits(self, *commits: Commit) -> list[Future[CacheReadPayload]]:
        """Each begins when the one before it has taken its place."""
        futures = []
        for commit in commits:
            before = self._lines()
            futures.append(self.begins(commit))
            wait_until(lambda before=before: self._lines() > before, what="a writer that waits")  # type: ignore[misc]
        return futures

    def begins(self, commit: Commit) -> Future[CacheReadPayload]:
        return self._threads.submit(self._commit, commit)

    def _commit(self, commit: Commit) -> CacheReadPayload:
        with Cache(self.path) as cache:
            return commit(cache)

    def _lines(self) -> int:
        batch = self.path.with_name(f".{self.path.name}.batch")
        return 1 + batch.read_bytes().count(b"\n") if batch.exists() else 0

    def let_in(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self._access.__exit__(None, None, None)
            self._inside.close()
        self._threads.shutdown()


def write(**contents: Any) -> Commit:
    return lambda cache: cache.write(contents)


def update(*delete: str, **changes: Any) -> Commit:
    return lambda cache: cache.update(changes, delete)


def replacements(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Filled with each replacement of a document from now on."""
    seen: list[Any] = []
    real = os.rename

    def rename(*arguments: Any, **options: Any) -> None:
        seen.append(arguments)
        real(*arguments, **options)

    monkeypatch.setattr(os, "rename", rename)
    return seen


def test_all_who_wait_cost_one_replacement(crowd: Crowd, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    futures = crowd.waits(*(update(**{f"key{number}": number}) for number in range(20)))
    seen = replacements(monkeypatch)
    crowd.let_in()
    assert [future.exception() for future in futures] == [None] * 20
    assert read_cache(path).dict == {"first": True, **{f"key{number}": number for number in range(20)}}
    assert len(seen) == 1


def test_changes_are_stored_in_their_order(crowd: Crowd, path: Path) -> None:
    crowd.waits(write(a=1), update(a=2, b=2), write(c=3), update(d=4), update("c", d=5))
    crowd.let_in()
    assert read_cache(path).dict == {"d": 5}


def test_last_of_many_whole_writes_stands(crowd: Crowd, path: Path) -> None:
    futures = crowd.waits(*(write(n=number) for number in range(10)))
    crowd.let_in()
    assert [future.exception() for future in futures] == [None] * 10
    assert read_cache(path).dict == {"n": 9}


def test_leader_gets_document_after_its_own_change(crowd: Crowd) -> None:
    leader, other = crowd.waits(write(mine=True), write(later=True))
    crowd.let_in()
    assert leader.result().dict == {"mine": True}
    assert leader.result().version != other.result().version


def test_the_batch_is_gone_afterwards(crowd: Crowd, batch_path: Path) -> None:
    crowd.waits(write(a=1), write(a=2))
    assert batch_path.exists()
    crowd.let_in()
    assert not batch_path.exists()


def test_impossible_change_fails_its_owner_alone(crowd: Crowd, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_KEYS", 3)
    first, bad, last = crowd.waits(update(a=1), update(b=1, c=1), update(d=1))
    crowd.let_in()
    assert (first.exception(), last.exception()) == (None, None)
    assert isinstance(bad.exception(), PayloadError)
    assert read_cache(path).dict == {"first": True, "a": 1, "d": 1}


def test_owner_stores_what_its_leader_did_not(crowd: Crowd, path: Path, batch_path: Path) -> None:
    leader = Batch(str(path))
    assert not leader.join(_any_change())
    futures = crowd.waits(update(a=1), update(b=1))
    leader.close()  # as the kernel does for one that was killed
    crowd.let_in()
    assert [future.exception() for future in futures] == [None, None]
    assert read_cache(path).dict == {"first": True, "a": 1, "b": 1}


def test_batch_that_the_dead_left_is_not_stored(crowd: Crowd, path: Path, batch_path: Path) -> None:
    batch_path.write_bytes(b'-{"write":{"old":true}}\n-{"delete":[],"update":{"old":true}}\n')
    before = batch_path.stat().st_ino, batch_path.stat().st_size
    crowd.begins(update(a=1))
    wait_until(lambda: (batch_path.stat().st_ino, batch_path.stat().st_size) != before, what="a new batch")
    crowd.waits(update(b=1))
    crowd.let_in()
    assert read_cache(path).dict == {"first": True, "a": 1, "b": 1}


def test_batch_that_the_dead_left_is_removed(path: Path, batch_path: Path) -> None:
    batch_path.write_bytes(b'-{"write":{"old":true}}\n')
    with Cache(path) as cache:
        assert cache.update({"a": 1}).dict == {"first": True, "a": 1}
    assert sorted(os.listdir(path.parent)) == [f".{path.name}.lock", path.name]


def test_old_batch_is_not_stored_during_its_removal(path: Path, batch_path: Path) -> None:
    """He has its lock for a moment, as a leader would; others may have written since what is in it."""
    batch_path.write_bytes(b'-{"delete":[],"update":{"first":"old"}}\n')
    _age(batch_path)
    remover = KernelLock(batch_path)
    assert remover.try_lock()
    with Cache(path) as cache:
        assert cache.modify(lambda contents: {**contents, "a": 1}).dict == {"first": True, "a": 1}
    assert read_cache(path).dict == {"first": True, "a": 1}
    assert not batch_path.exists()
    remover.close()


def test_leader_that_waited_long_stores_its_own_batch(
    crowd: Crowd, path: Path, batch_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crowd behind a disk that stalled costs a replacement each."""
    futures = crowd.waits(*(update(**{f"key{number}": number}) for number in range(10)))
    _age(batch_path)
    seen = replacements(monkeypatch)
    crowd.let_in()
    assert [future.exception() for future in futures] == [None] * 10
    assert len(seen) == 1


def test_interruption_after_entering_leaves_file_to_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_batch: Batch) -> None:
        raise KeyboardInterrupt

    with Cache(path) as cache:
        monkeypatch.setattr(Batch, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.update({"a": 1})
        monkeypatch.undo()
        other = FileStore(path)
        assert other.access.try_enter() is Outcome.ENTERED
        other.close()


def test_writer_inside_stores_a_waiting_leaders_batch(
    path: Path, batch_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a machine that stalls for seconds must not make it an old one
    monkeypatch.setattr(limits, "BATCH_WAIT_S", 60.0)
    leader, follower = Batch(str(path)), Batch(str(path))
    assert not leader.join(_any_change("first"))
    assert follower.join(update_of({"other": 1}))
    with Cache(path) as cache:
        cache.modify(lambda contents: {**contents, "a": 1})
    assert read_cache(path).dict == {"first": True, "any": "first", "other": 1, "a": 1}
    assert (leader.has_stored, follower.has_stored) == (True, True)
    assert not batch_path.exists()
    for each in (leader, follower):
        each.close()


def test_latecomer_during_storing_begins_the_next_batch(path: Path, batch_path: Path) -> None:
    leader, late, next_one = (Batch(str(path)) for _ in range(3))
    assert not leader.join(_any_change())
    assert late.join(_any_change())
    taken = leader.take()
    assert not next_one.join(_any_change())
    assert batch_path.exists()
    leader.stored(taken)
    leader.close()
    assert late.wait()
    assert late.has_stored
    for each in (late, next_one):
        each.close()


def test_latecomer_to_a_taken_batch_begins_another(
    path: Path, batch_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, late, taken = Batch(str(path)), Batch(str(path)), []
    assert not leader.join(_any_change())
    real = Batch._leads

    def looks_and_then_it_is_taken(self: Batch) -> bool:
        leads = real(self)
        taken or taken.append(leader.take())
        return leads

    monkeypatch.setattr(Batch, "_leads", looks_and_then_it_is_taken)
    assert not late.join(_any_change()), "handed to a leader who has read its batch already"
    for each in (leader, late):
        each.close()


def test_change_appended_too_late_is_not_stored(path: Path, batch_path: Path) -> None:
    leader, early, late = (Batch(str(path)) for _ in range(3))
    assert not leader.join(_any_change())
    assert early.join(_any_change())
    assert late.join(_any_change())
    leader.stored(leader.take()[:1])  # as if it had read the batch before the last line was in it
    leader.close()
    assert early.wait()
    assert early.has_stored
    assert late.wait()
    assert not late.has_stored
    for each in (early, late):
        each.close()


@pytest.mark.parametrize(
    "torn", [b'-{"wri', b"-{}\n", b"\xff\xfe\n", b'-{"write":7}\n', b'-{"update":{},"delete":[{}]}\n']
)
def test_a_torn_or_strange_line_disturbs_nobody(crowd: Crowd, path: Path, batch_path: Path, torn: bytes) -> None:
    crowd.waits(update(a=1), update(b=1))
    with batch_path.open("ab") as batch:
        batch.write(torn)
    futures = crowd.waits(update(c=1), update(d=1))
    crowd.let_in()
    assert [future.exception() for future in futures] == [None, None]
    assert read_cache(path).dict == {"first": True, "a": 1, "b": 1, "c": 1, "d": 1}


def test_torn_whole_write_overwrites_nothing_before_it(crowd: Crowd, path: Path, batch_path: Path) -> None:
    crowd.waits(update(a=1), update(b=1))
    with batch_path.open("ab") as batch:
        batch.write(b'-{"write":{"half\n')
    crowd.waits(update(c=1))
    crowd.let_in()
    assert read_cache(path).dict == {"first": True, "a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: os.symlink("elsewhere", path), os.mkdir])
def test_writers_without_a_batch_write_for_themselves(
    path: Path, batch_path: Path, plant: Callable[[Path], None]
) -> None:
    plant(batch_path)
    store, writers = FileStore(path), NewThreads()
    with ThreadPoolExecutor(8) as threads:
        with store.entered():
            futures = [threads.submit(Cache(path).update, {f"key{number}": 1}) for number in range(8)]
            wait_until(lambda: len(writers.names()) >= 8, what="writers that wait")
        assert [future.exception() for future in futures] == [None] * 8
    store.close()
    assert len(read_cache(path).dict) == 9


def test_change_whose_owner_gave_up_is_withdrawn(path: Path, batch_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its leader would store it after what its owner has written next, and been told of."""
    leader, patient, impatient = (Batch(str(path)) for _ in range(3))
    assert not leader.join(_any_change())
    assert patient.join(_any_change("stays"))
    assert impatient.join(write_of({"withdrawn": True}))

    def interrupted(*_arguments: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(KernelLock, "await_free", interrupted)
        with pytest.raises(KeyboardInterrupt), contextlib.closing(impatient):
            impatient.wait()
    assert [each.change for each in leader.take()] == [_any_change("stays")]
    for each in (leader, patient):
        each.close()


def test_stuck_leader_is_waited_for_within_the_bound(
    path: Path, batch_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_WAIT_S", 0.01)
    leader, follower = Batch(str(path)), Batch(str(path))
    assert not leader.join(_any_change())
    assert follower.join(_any_change())
    assert not follower.wait()
    assert not follower.has_stored
    for each in (follower, leader):
        each.close()


def test_impatient_followers_still_share_one_replacement(
    crowd: Crowd, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the longer the queue is, the more give up, and the longer it gets."""
    gave_up = threading.Semaphore(0)

    def give_up(_lock: KernelLock, _timeout_s: float) -> bool:
        gave_up.release()
        return False

    monkeypatch.setattr(KernelLock, "await_free", give_up)
    futures = crowd.waits(*(update(**{f"key{number}": number}) for number in range(10)))
    for _ in futures[1:]:
        assert gave_up.acquire(timeout=30)
    seen = replacements(monkeypatch)
    crowd.let_in()
    assert [future.exception() for future in futures] == [None] * 10
    assert len(read_cache(path).dict) == 11
    assert len(seen) == 1


def test_change_that_missed_a_batch_joins_the_next(crowd: Crowd, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of them would cost a replacement each."""
    real, missed = Batch.take, threading.Event()

    def early_take(batch: Batch) -> Any:
        taken = real(batch)
        if missed.is_set():
            return taken
        missed.set()
        return []

    monkeypatch.setattr(Batch, "take", early_take)
    futures = crowd.waits(*(update(**{f"key{number}": number}) for number in range(10)))
    seen = replacements(monkeypatch)
    crowd.let_in()
    assert [future.exception() for future in futures] == [None] * 10
    assert len(read_cache(path).dict) == 11
    assert len(seen) < 10


def test_document_text_is_not_made_for_each_waiter(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand times the text of a thousand keys takes seconds."""
    made, real = [], Document.to_text

    def to_text(document: Document) -> bytes:
        made.append(document)
        return real(document)

    crowd.waits(*(update(**{f"key{number}": number}) for number in range(20)))
    monkeypatch.setattr(Document, "to_text", to_text)
    crowd.let_in()
    assert len(made) == 2


def test_change_stored_by_slow_leader_is_not_repeated(
    path: Path, batch_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would undo what others have written since."""
    taken, go_on, seen = threading.Event(), threading.Event(), replacements(monkeypatch)
    take = Batch.take

    def slow_take(batch: Batch) -> Any:
        changes = take(batch)
        taken.set()
        assert go_on.wait(30)
        return changes

    inside = FileStore(path)
    with ThreadPoolExecutor(2) as threads:
        with inside.entered():
            monkeypatch.setattr(limits, "BATCH_WAIT_S", 60.0)
            first = threads.submit(lambda: Cache(path).update({"led": True}))
            wait_until(batch_path.exists, what="the leader")
            monkeypatch.setattr(Batch, "take", slow_take)
            follower = Batch(str(path))
            assert follower.join(update_of({"followed": True}, []))
        assert taken.wait(30)
        monkeypatch.setattr(limits, "BATCH_WAIT_S", 0.01)
        assert not follower.wait(), "the leader is at work"
        go_on.set()
        first.result(30)
    assert follower.has_stored
    assert read_cache(path).dict == {"first": True, "led": True, "followed": True}
    assert len(seen) == 1
    follower.close()
    assert not follower.has_stored
    inside.close()


def test_late_commit_looks_again_once_inside(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, gave_up, take = threading.Event(), threading.Event(), Batch.take

    def slow_take(batch: Batch) -> Any:
        changes = take(batch)
        taken.set()
        assert gave_up.wait(30)
        return changes

    def give_up(_lock: KernelLock, _timeout_s: float) -> bool:
        assert taken.wait(30)
        return False

    def enter(store: FileStore) -> None:
        gave_up.set()
        enter_really(store)

    enter_really = FileStore.enter
    leader, follower = None, None
    with monkeypatch.context() as patched:
        patched.setattr(Batch, "take", slow_take)
        patched.setattr(KernelLock, "await_free", give_up)
        (leader,) = crowd.waits(update(led=True))
        patched.setattr(FileStore, "enter", enter)
        (follower,) = crowd.waits(update(followed=True))
        seen = replacements(monkeypatch)
        crowd.let_in()
    assert leader.result(30).dict == {"first": True, "led": True}
    assert follower.result(30).dict == {"first": True, "led": True, "followed": True}
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("document", "batch", "takes_part"),
    [(0o600, 0o600, True), (0o600, 0o660, False), (0o640, 0o660, True), (0o644, 0o660, True), (0o400, 0o660, False)],
)
def test_private_change_goes_into_no_wider_batch(
    path: Path, batch_path: Path, document: int, batch: int, takes_part: bool
) -> None:
    """A directory that lets its group write has lock files and batches for the group, but maybe a document for one."""
    path.chmod(document)
    leader, other = Batch(str(path)), Batch(str(path))
    assert not leader.join(_any_change())
    batch_path.chmod(batch)
    assert other.join(_any_change()) is takes_part
    for each in (leader, other):
        each.close()


def test_functions_and_large_changes_wait_for_their_turn(path: Path, batch_path: Path) -> None:
    leader, other = Batch(str(path)), Batch(str(path))
    assert not leader.join(_any_change())
    assert not other.join(Modify(dict))
    assert not other.join(update_of({"large": "x" * limits.BATCHED_CHANGE_BYTES}))
    assert leader.take() == []
    for each in (leader, other):
        each.close()


def test_a_full_batch_takes_no_more(path: Path, batch_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES", 100)
    leader, fits, full = (Batch(str(path)) for _ in range(3))
    assert not leader.join(_any_change())
    assert fits.join(_any_change())
    assert not full.join(_any_change("x" * 100))
    for each in (leader, fits, full):
        each.close()


def _any_change(text: str = "x") -> Any:
    return update_of({"any": text})


def _age(batch_path: Path) -> None:
    an_hour_ago_s = time.time() - 3600
    os.utime(batch_path, (an_hour_ago_s, an_hour_ago_s))
