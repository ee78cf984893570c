"""A read and a write killed, or failed, at each of their system calls in turn.

Afterwards the document is the old or the new one and what was acknowledged is there, no temporary file stays,
the next program gets in at once, and nothing is left un-writable.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.errors import StoreError
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.testing import wait_until
from tests.multiprocess.children import Child, say
from tests.multiprocess.strace import Call, calls_in, traced

OLD, NEW = {"n": 1, "text": "old" * 100}, {"n": 2, "text": "new" * 100}


@pytest.fixture(name="directory")
def new_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def write(writer: int, path: Path) -> None:
    _acknowledge(writer, lambda: Cache(path).write(NEW))


def read_in_turn(writer: int, path: Path) -> None:
    """As the chart reads: inside the exclusive access."""

    def read() -> None:
        store = FileStore(path)
        with store.entered():
            assert store.load().document.contents in (OLD, NEW)

    _acknowledge(writer, read)


def read(writer: int, path: Path) -> None:
    _acknowledge(writer, lambda: read_cache(path))


def _acknowledge(writer: int, work: Callable[[], Any]) -> None:
    try:
        work()
    except StoreError:
        say(writer, "refused")
    except BaseException:
        say(writer, traceback.format_exc())
    else:
        say(writer, "done")
    os._exit(0)


WORK = {"write": write, "read in turn": read_in_turn, "read": read}


def fresh(directory: Path) -> Path:
    """A new document in a directory of its own."""
    path = Path(tempfile.mkdtemp(dir=directory)) / "cache.json"
    with Cache(path) as cache:
        cache.write(OLD)
    return path


def calls_of(directory: Path, work: Callable[[int, Path], None]) -> list[Call]:
    """What the work asks of the kernel, up to its acknowledgement."""
    log = directory / "log"
    assert traced(log, work, fresh(directory)).said == b"done\n"
    calls = calls_in(log)
    acknowledgement = max(index for index, call in enumerate(calls) if call.name == "write")
    return calls[:acknowledgement]


def after(child: Child, path: Path, name: str) -> str:
    """What is wrong with what the child left behind, "" if nothing is."""
    said = child.said.decode().strip()
    if said not in ("", "done", "refused"):
        return f"an error that is none of ours: {said}"
    if Child(_enter_at_once, path).join() != 0:
        return "the next one does not get in at once"
    contents = read_cache(path).dict
    if contents not in (OLD, NEW):
        return f"neither the old nor the new document: {contents}"
    if said == "done" and name == "write" and contents != NEW:
        return "what was acknowledged is lost"
    left = set(os.listdir(path.parent)) - {".cache.json.lock", "cache.json"}
    if left:
        return f"left over: {left}"
    return "" if path.stat().st_mode & 0o222 else "left un-writable"


def _enter_at_once(_writer: int, path: Path) -> None:
    notices: list[Any] = []
    store = FileStore(path, take_over_after_s=1000, notice=lambda *notice: notices.append(notice))
    assert store.access.try_enter().value == "entered"
    store.access.mark()
    store.load()
    store.leave()
    assert notices == []


def disturbed(directory: Path, name: str, how: str) -> dict[str, str]:
    """What went wrong, by the call that was disturbed."""
    wrong: dict[str, str] = {}
    undisturbed: list[Call] = []
    calls = calls_of(directory, WORK[name])
    assert len(calls) >= (4 if name == "read" else 12), calls
    for call in calls:
        path = fresh(directory)
        inject = f"{call.name}:{how}:when={call.number}"
        child = traced(directory / "log", WORK[name], path, inject=inject)
        if how.startswith("signal") and child.status != -9:
            undisturbed.append(call)
        found = after(child, path, name)
        if found:
            wrong[inject] = found
    # the interpreter looks for a module now and then, and a busy machine has a thread wait once more or less
    assert len(undisturbed) <= max(2, len(calls) // 10), f"not killed at {undisturbed}, of {calls}"
    return wrong


@pytest.mark.parametrize("name", WORK)
def test_killed_at_any_system_call(directory: Path, name: str) -> None:
    assert disturbed(directory, name, "signal=KILL") == {}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_failed_at_any_system_call(directory: Path, name: str, error: str) -> None:
    assert disturbed(directory, name, f"error={error}") == {}


class Company:
    """Others who write at the same moment: the file is taken until the child and they wait for it together.

    leads  whether the child is the one who stores for all, or one of the others is
    """

    def __init__(self, path: Path, *, leads: bool) -> None:
        self._path, self._leads = path, leads
        self._batch = path.with_name(f".{path.name}.batch")
        self._child_is_over = threading.Event()
        self._threads = ThreadPoolExecutor(2)
        self._store = FileStore(path)
        self._access = self._store.entered()
        self._others: list[Future[Any]] = []

    def __enter__(self) -> Company:
        self._access.__enter__()
        if not self._leads:
            self._one_more()
            wait_until(self._batch.exists, what="a leader")
        self._gathering = self._threads.submit(self._gather)
        return self

    def __exit__(self, *_: object) -> None:
        self._child_is_over.set()
        self._gathering.result()
        self.acknowledged = [dict(other.result().dict) for other in self._others]
        self._threads.shutdown()
        self._store.close()

    def _gather(self) -> None:
        if self._leads:
            self._wait(self._batch.exists)
            if self._batch.exists():
                self._one_more()
        self._wait(lambda: self._batch.exists() and b"\n" in self._batch.read_bytes())
        self._access.__exit__(None, None, None)

    def _one_more(self) -> None:
        self._others.append(self._threads.submit(lambda: Cache(self._path).update({"other": True})))

    def _wait(self, condition: Callable[[], bool]) -> None:
        with contextlib.suppress(AssertionError):  # the child may be disturbed so that it waits for its own turn
            wait_until(lambda: self._child_is_over.is_set() or condition(), 1.0)


def lost(acknowledged: dict[str, Any], contents: dict[str, Any]) -> bool:
    """Whether an update is gone for another reason than that the child's whole write came after it.

    So it is where the child waits for its own turn, or where the other has locked the batch that the child has made.
    The other then saw the document before that write, or, if it was stored for both, after it.
    """
    return contents != NEW or acknowledged not in ({**OLD, "other": True}, NEW)


@pytest.mark.parametrize("how", ["signal=KILL", "error=EIO"])
@pytest.mark.parametrize("leads", [True, False])
def test_disturbed_while_several_write_at_once(directory: Path, leads: bool, how: str) -> None:
    path = fresh(directory)
    with Company(path, leads=leads):
        assert traced(directory / "log", write, path).said == b"done\n"
    calls = calls_in(directory / "log")
    wrong: dict[str, str] = {}
    for call in calls:
        path = fresh(directory)
        inject = f"{call.name}:{how}:when={call.number}"
        with Company(path, leads=leads) as company:
            child = traced(directory / "log", write, path, inject=inject)
        contents = dict(read_cache(path).dict)
        others = contents.pop("other", False)
        if child.said not in (b"", b"done\n", b"refused\n"):
            wrong[inject] = f"an error that is none of ours: {child.said.decode()}"
        elif contents not in (OLD, NEW) or (child.said == b"done\n" and contents != NEW):
            wrong[inject] = f"not what was acknowledged: {contents}"
        elif not others and any(lost(each, contents) for each in company.acknowledged):
            wrong[inject] = f"what was acknowledged to another one is lost: {company.acknowledged}, now {contents}"
    assert wrong == {}


def test_system_calls_of_a_write_survive_power_loss(directory: Path) -> None:
    names = [call.name for call in calls_of(directory, write)]
    fsyncs = [index for index, name in enumerate(names) if name == "fsync"]
    (rename,) = [index for index, name in enumerate(names) if name.startswith("rename")]
    writes = [index for index, name in enumerate(names) if name == "write"]
    assert len(fsyncs) == 2
    assert max(writes) < fsyncs[0] < rename < fsyncs[1], names
