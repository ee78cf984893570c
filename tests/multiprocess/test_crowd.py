"""Crowds on one file: nothing is lost, nothing is torn, nobody starves, and a killed holder delays nobody."""

from __future__ import annotations

import itertools
import json
import os
import random
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.document.layout import META_KEY
from miros_cache_net.events import CACHE_FILE_WRITE, event
from miros_cache_net.store.changes import AddressedChange, Modify
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.testing import wait_until
from tests.multiprocess.children import Child, join_all, say


@pytest.fixture(name="path")
def where_all_users_may_enter() -> Iterator[Path]:
    # not below pytest's own directory, which other users cannot enter
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory, "cache.json")


@pytest.fixture(name="gate")
def new_gate(path: Path) -> Path:
    """Children wait until this file exists."""
    return path.with_name("open")


def wait_for(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.001)


def one_more(contents: dict[str, Any]) -> dict[str, Any]:
    return {**contents, "n": contents.get("n", 0) + 1}


def count_with_client(writer: int, path: Path, gate: Path, times: int) -> None:
    wait_for(gate)
    with Cache(path) as cache:
        for _ in range(times):
            cache.modify(one_more)


def count_with_chart(writer: int, path: Path, gate: Path, times: int) -> None:
    wait_for(gate)
    chart = CacheFileChart(path)
    done = itertools.count(1)
    served = 0

    def one_more_here(contents: dict[str, Any]) -> dict[str, Any]:
        nonlocal served
        served = next(done)
        return one_more(contents)

    for _ in range(times):
        chart.post_fifo(event(CACHE_FILE_WRITE, AddressedChange(Modify(one_more_here), chart.file_path)))
    wait_until(lambda: served == times, 80.0, "all its changes")
    chart.stop()


def assert_left_in_order(path: Path) -> None:
    assert sorted(os.listdir(path.parent)) == [f".{path.name}.lock", path.name]
    assert path.stat().st_mode & 0o222


@pytest.mark.parametrize("count", [count_with_client, count_with_chart])
def test_eight_processes_with_200_increments_each_keep_1600(path: Path, gate: Path, count: Callable[..., None]) -> None:
    children = [Child(count, path, gate, 200) for _ in range(8)]
    gate.touch()
    assert join_all(children) == [0] * 8
    gate.unlink()
    assert read_cache(path).dict == {"n": 1600}
    assert_left_in_order(path)


def count_and_compare(writer: int, path: Path, gate: Path, until_s: float) -> None:
    wait_for(gate)
    turns = 0
    with Cache(path) as cache:
        while time.monotonic() < until_s:
            cache.modify(one_more)
            contents = cache.read().dict
            assert contents["n"] > turns, "a read older than one's own write"
            turns += 1
    say(writer, str(turns))


def test_fifty_processes_take_turns_and_lose_nothing(path: Path, gate: Path) -> None:
    until_s = time.monotonic() + 5.0
    children = [Child(count_and_compare, path, gate, until_s) for _ in range(50)]
    gate.touch()
    assert join_all(children) == [0] * 50
    turns = [int(child.said) for child in children]
    assert min(turns) >= 1
    assert sum(turns) == read_cache(path).dict["n"]


def test_fifty_processes_start_at_once_without_a_file(path: Path, gate: Path) -> None:
    def start(writer: int) -> None:
        wait_for(gate)
        chart = CacheFileChart(path, default_json={"made": True}, watch=True)
        wait_until(lambda: path.exists() and chart.document().contents == {"made": True}, 60.0, "the document")
        chart.stop()

    children = [Child(start) for _ in range(50)]
    gate.touch()
    assert join_all(children) == [0] * 50
    gate.unlink()
    assert_left_in_order(path)


# --- kills ------------------------------------------------------------------------------------------------


def test_a_holder_killed_inside_delays_nobody(path: Path) -> None:
    def hold(writer: int) -> None:
        store = FileStore(path)
        with store.entered():
            say(writer, "inside")
            time.sleep(1000)

    with Cache(path) as cache:
        cache.write({"a": 1})
    child = Child(hold)
    wait_until(lambda: path.stat().st_mode & 0o222 == 0, what="the child to be inside")
    waiting = Child(lambda _writer: Cache(path).update({"b": 2}))
    wait_until(lambda: _waits_in_flock(waiting.pid), what="the other to wait")
    child.kill()
    assert waiting.join() == 0
    child.join()
    notices: list[object] = []
    store = FileStore(path, notice=lambda *notice: notices.append(notice))
    with store.entered():
        assert store.load().document.contents == {"a": 1, "b": 2}
    store.close()
    assert notices == []
    assert_left_in_order(path)


def _waits_in_flock(pid: int) -> bool:
    with open("/proc/locks", encoding="ascii") as locks:
        return any("->" in line and str(pid) in line.split() for line in locks)


def write_and_acknowledge(writer: int, path: Path, me: str) -> None:
    with Cache(path) as cache:
        for number in itertools.count(1):
            cache.update({me: number, f"{me} twice": number})
            say(writer, str(number))


def read_and_check(writer: int, path: Path, until_s: float) -> None:
    """As a program that takes no lock and knows nothing of us, and as one of ours; both see whole documents."""
    reads = 0
    with Cache(path) as cache:
        while time.monotonic() < until_s:
            plain = json.loads(path.read_bytes())
            plain.pop(META_KEY)
            for contents in (plain, cache.read().dict):
                for me in [key for key in contents if not key.endswith("twice")]:
                    assert contents[me] == contents[f"{me} twice"], "two halves of different documents"
            reads += 1
    say(writer, str(reads))


def test_storm_of_kills_loses_nothing_acknowledged(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({})
    rng = random.Random(7)
    until_s = time.monotonic() + 8.0
    readers = [Child(read_and_check, path, until_s) for _ in range(3)]
    living: list[Child] = []
    dead: dict[str, Child] = {}
    names: dict[int, str] = {}
    while time.monotonic() < until_s:
        while len(living) < 6:
            name = f"p{len(names)}"
            living.append(Child(write_and_acknowledge, path, name))
            names[living[-1].pid] = name
        time.sleep(rng.uniform(0, 0.03))
        victim = living.pop(rng.randrange(len(living)))
        victim.kill()
        dead[names[victim.pid]] = victim
    for victim in living:
        victim.kill()
        dead[names[victim.pid]] = victim
    join_all([*readers, *dead.values()])
    assert [child.status for child in readers] == [0] * 3
    assert min(int(child.said) for child in readers) > 10
    with Cache(path) as cache:
        final = cache.update({"last": 1, "last twice": 1}).dict
    acknowledged = {name: int(child.said.split()[-1]) for name, child in dead.items() if child.said.split()}
    assert len(acknowledged) > 10
    assert {name: number for name, number in acknowledged.items() if final.get(name, 0) < number} == {}
    assert_left_in_order(path)


# --- users ------------------------------------------------------------------------------------------------

GROUP = 12_345
needs_root = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can be several users")


def count_as(users: list[tuple[int, int]], path: Path, gate: Path, umask: int) -> None:
    def count(writer: int) -> None:
        os.umask(umask)
        count_with_client(writer, path, gate, 25)

    children = [Child(count, uid=uid, gid=gid) for uid, gid in users]
    gate.touch()
    assert join_all(children) == [0] * len(users)
    gate.unlink()


@needs_root
def test_processes_of_one_plain_user_lose_nothing(path: Path, gate: Path) -> None:
    os.chown(path.parent, 1234, 1234)
    count_as([(1234, 1234)] * 4, path, gate, 0o022)
    assert read_cache(path).dict == {"n": 100}
    assert path.stat().st_uid == 1234


@needs_root
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027])
def test_users_of_a_group_directory_exclude_each_other(path: Path, gate: Path, umask: int) -> None:
    os.chown(path.parent, 0, GROUP)
    path.parent.chmod(0o2770)
    count_as([(1234, GROUP), (1235, GROUP), (1236, GROUP), (0, 0)], path, gate, umask)
    assert read_cache(path).dict == {"n": 100}
    assert path.stat().st_gid == GROUP
    assert_left_in_order(path)


@needs_root
def test_group_member_recovers_a_file_left_unwritable(path: Path) -> None:
    os.chown(path.parent, 0, GROUP)
    path.parent.chmod(0o2770)

    def die_inside(writer: int) -> None:
        os.umask(0o002)
        store = FileStore(path)
        with store.entered():
            store.load()
        store.access.enter()
        store.access.mark()
        os._exit(9)

    def read_on(writer: int) -> None:
        store = FileStore(path)
        with store.entered():
            store.load()
        store.close()

    assert Child(die_inside, uid=1234, gid=GROUP).join() == 9
    assert path.stat().st_mode & 0o222 == 0
    assert Child(read_on, uid=1235, gid=GROUP).join() == 0
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1235, GROUP, 0o664)


@needs_root
def test_another_user_can_only_read(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"a": 1})

    def try_it(writer: int) -> None:
        from miros_cache_net.errors import PermissionRefused

        assert read_cache(path).dict == {"a": 1}
        with pytest.raises(PermissionRefused), Cache(path) as cache:
            cache.write({"b": 2})
        with pytest.raises(PermissionError):
            os.open(path.with_name(".cache.json.lock"), os.O_RDONLY)

    assert Child(try_it, uid=1234, gid=1234).join() == 0
    assert read_cache(path).dict == {"a": 1}


# --- forks and threads --------------------------------------------------------------------------------------


def test_parents_cache_and_chart_are_harmless_in_child(path: Path) -> None:
    chart = CacheFileChart(path)
    cache = Cache(path)
    cache.write({"by": "parent"})

    def use_them(writer: int) -> None:
        from miros_cache_net.errors import ChartForked

        with pytest.raises(ChartForked):
            chart.post_fifo(event(CACHE_FILE_WRITE, {"by": "nobody"}))
        chart.stop()
        assert cache.read().dict == {"by": "parent"}
        cache.write({"by": "child"})
        mine = CacheFileChart(path)
        mine.post_fifo(event(CACHE_FILE_WRITE, {"by": "the child's chart"}))
        wait_until(lambda: cache.read().dict == {"by": "the child's chart"}, 30.0)
        mine.stop()

    assert Child(use_them).join() == 0
    assert cache.read().dict == {"by": "the child's chart"}
    chart.post_fifo(event(CACHE_FILE_WRITE, {"by": "parent again"}))
    wait_until(lambda: cache.read().dict == {"by": "parent again"}, 30.0)
    chart.stop()
    cache.close()


def test_bare_dict_in_child_goes_to_childs_chart(path: Path) -> None:
    chart = CacheFileChart(path.with_name("parent.json"))

    def write_without_a_name(writer: int) -> None:
        mine = CacheFileChart(path)
        mine.publish(event(CACHE_FILE_WRITE, {"by": "child"}))
        wait_until(lambda: read_cache(path).dict == {"by": "child"}, 30.0)
        mine.stop()

    assert Child(write_without_a_name).join() == 0
    chart.stop()


def test_child_forked_while_threads_write_can_write(path: Path) -> None:
    import threading

    cache = Cache(path)
    over = threading.Event()

    def write_on() -> None:
        while not over.is_set():
            cache.modify(one_more)

    threads = [threading.Thread(target=write_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    children = [Child(lambda _writer: [cache.modify(one_more) for _ in range(3)]) for _ in range(20)]
    codes = join_all(children)
    over.set()
    for thread in threads:
        thread.join(30)
    assert codes == [0] * 20
    cache.close()
    assert_left_in_order(path)
