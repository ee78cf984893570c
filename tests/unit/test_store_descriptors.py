"""Descriptors go back to the system, whether or not anybody closes a cache, and whatever raises meanwhile."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.kernel_lock import KernelLock
from miros_cache_net.store.lock import ExclusiveAccess, Outcome
from miros_cache_net.testing import wait_until
from tests.descriptors import NewDescriptors


class Interrupted(BaseException):
    """What a signal handler raises."""


@pytest.fixture(name="path")
def a_document(path: Path) -> Path:
    with Cache(path) as cache:
        cache.write({"a": 1})
    return path


def change(path: Path) -> None:
    Cache(path).update({"b": 2})


def read(path: Path) -> None:
    Cache(path).read()


def wait_for_the_lock(path: Path) -> None:
    lock = KernelLock(str(path) + ".own")
    assert lock.try_lock()


def enter(path: Path) -> None:
    assert ExclusiveAccess(path).try_enter() is Outcome.ENTERED


def load(path: Path) -> None:
    store = FileStore(path)
    store.enter()
    store.access.mark()
    store.load()


@pytest.mark.parametrize("use", [change, read, wait_for_the_lock, enter, load])
def test_what_nobody_closes_keeps_no_descriptor(path: Path, use: Callable[[Path], None]) -> None:
    use(path)
    gc.collect()
    descriptors = NewDescriptors()
    for _ in range(20):
        use(path)
    gc.collect()
    assert descriptors.links() == []
    # nor the lock, nor the document un-writable
    with Cache(path) as cache:
        assert cache.update({"c": 3}).dict["c"] == 3
    assert path.stat().st_mode & 0o200


@pytest.fixture
def raising_handler() -> Iterator[None]:
    def handler(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("raising_handler")
def test_signal_while_an_update_waits_leaves_no_descriptor(path: Path) -> None:
    gc.collect()
    descriptors = NewDescriptors()
    holder = ExclusiveAccess(path)
    assert holder.try_enter() is Outcome.ENTERED
    main = threading.main_thread().ident
    assert main is not None

    def waits() -> bool:
        return sys._current_frames()[main].f_code.co_name == "await_free"

    def interrupt() -> None:
        wait_until(waits, what="the update to wait for who leads")
        signal.pthread_kill(main, signal.SIGUSR1)

    leader = KernelLock(path.with_name(".cache.json.batch"))
    assert leader.try_lock()
    leader.append(b"x")
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(Interrupted):
        Cache(path).update({"b": 2})
    interrupting.join()
    leader.close()
    holder.close()
    gc.collect()
    wait_until(lambda: not descriptors.links(), what="all descriptors to be closed")
    with Cache(path) as cache:
        assert cache.update({"c": 3}).dict == {"a": 1, "c": 3}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it was not closed by anybody
def test_signal_after_making_a_file_leaves_no_descriptor(path: Path) -> None:
    gc.collect()
    descriptors = NewDescriptors()
    cache = Cache(path)

    def tell(_frame: FrameType, happened: str, _what: Any) -> None:
        # where the interpreter looks for signals: after a call of C
        if happened == "c_return" and ".tmp-" in " ".join(os.listdir(path.parent)):
            sys.setprofile(None)
            raise Interrupted

    sys.setprofile(tell)
    try:
        with pytest.raises(Interrupted):
            cache.update({"b": 2})
    finally:
        sys.setprofile(None)
    cache.close()
    del cache
    gc.collect()
    assert descriptors.links() == []
    with Cache(path) as again:
        assert again.update({"c": 3}).dict == {"a": 1, "c": 3}
    assert sorted(os.listdir(path.parent)) == [".cache.json.lock", "cache.json"]
