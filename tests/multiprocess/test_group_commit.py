"""Group commit among processes that are killed at any moment: what was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.testing import wait_until
from tests.multiprocess.children import Child, join_all, say


def own_key(writer: int, path: Path, number: int, until_s: float) -> None:
    """Counts in a key of its own and tells each count once it is acknowledged."""
    with Cache(path) as cache:
        count = 0
        while not count or time.monotonic() < until_s:
            count += 1
            cache.update({f"key{number}": count})
            assert cache.read().dict[f"key{number}"] == count, "a read older than one's own write"
            say(writer, str(count))


def acknowledged(child: Child) -> int:
    return int(child.said.split()[-1]) if child.said else 0


def waiting_at(batch_path: Path) -> int:
    return batch_path.read_bytes().count(b"\n") if batch_path.exists() else 0


def test_storm_of_updates_and_kills_loses_nothing_acknowledged(path: Path) -> None:
    rng = random.Random(7)
    with Cache(path) as cache:
        cache.write({"first": True})
    until_s = time.monotonic() + 4.0
    children = {number: Child(own_key, path, number, until_s) for number in range(24)}
    victims = rng.sample(sorted(children), 12)
    for victim in victims:
        time.sleep(rng.uniform(0, 0.25))  # kills at random moments are what this test is about
        children[victim].kill()
    statuses = dict(zip(children, join_all(children.values()), strict=True))
    contents = read_cache(path).dict
    for number, child in children.items():
        assert statuses[number] == (-9 if number in victims else 0)
        # one more may have been stored before its process heard of it
        assert contents.get(f"key{number}", 0) - acknowledged(child) in (0, 1)


def test_a_killed_leader_costs_the_others_nothing(path: Path) -> None:
    batch_path = path.with_name(f".{path.name}.batch")

    store = FileStore(path)
    with store.entered():
        children = []
        for number in range(5):
            children.append(Child(own_key, path, number, 0.0 if number else 1e9))
            wait_until(lambda number=number: waiting_at(batch_path) == number + 1, what="a process that waits")  # type: ignore[misc]
        leader, others = children[0], children[1:]
        leader.kill()
        leader.join()
    store.close()
    assert join_all(others) == [0] * len(others)


def test_stopped_waiting_process_does_not_block_free_file(path: Path) -> None:
    with Cache(path) as cache:
        cache.write({"first": True})
    batch_path = path.with_name(f".{path.name}.batch")
    store = FileStore(path)
    with store.entered():
        leader = Child(own_key, path, 0, 0.0)
        wait_until(lambda: waiting_at(batch_path) == 1)
        os.kill(leader.pid, signal.SIGSTOP)
        follower = Child(own_key, path, 1, 0.0)
        wait_until(lambda: waiting_at(batch_path) == 2, what="one who waits for the leader")
    store.close()
    try:
        assert follower.join(time.monotonic() + 30) == 0
        with Cache(path) as cache:
            cache.update({"key1": "younger"})
    finally:
        os.kill(leader.pid, signal.SIGCONT)
    assert leader.join() == 0
    assert read_cache(path).dict == {"first": True, "key0": 1, "key1": "younger"}


def test_forked_child_of_dead_leader_blocks_nobody(path: Path) -> None:
    """The child has the leader's descriptors; the kernel would not give the batch's lock back while it has them."""
    with Cache(path) as cache:
        cache.write({"first": True})
    batch_path = path.with_name(f".{path.name}.batch")
    forked, over = path.with_name("forked"), path.with_name("over")

    def lead_and_fork(writer: int) -> None:
        threading.Thread(target=Cache(path).update, args=({"leader": True},), daemon=True).start()
        wait_until(lambda: waiting_at(batch_path) == 1)
        if os.fork() == 0:
            wait_until(over.exists, 60.0)
            os._exit(0)
        forked.touch()
        threading.Event().wait()

    store = FileStore(path)
    with store.entered():
        leader = Child(lead_and_fork)
        wait_until(forked.exists)
        follower = Child(own_key, path, 1, 0.0)
        wait_until(lambda: waiting_at(batch_path) == 2, what="one who waits for the leader")
        leader.kill()
    store.close()
    try:
        assert follower.join(time.monotonic() + 30) == 0
    finally:
        over.touch()
        leader.join()
