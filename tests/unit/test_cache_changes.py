"""`Cache.changes`: the document's states in a loop."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.cache import Cache
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.testing import wait_until
from tests.threads import NewThreads

AMPLE_S = 30.0


@pytest.fixture(name="cache")
def new_cache(path: Path) -> Iterator[Cache]:
    with Cache(path) as cache:
        yield cache


def test_a_change_made_before_the_first_step_is_told(cache: Cache, path: Path) -> None:
    cache.write({"n": 0})
    changes = cache.changes(AMPLE_S)
    Cache(path).write({"n": 1})
    assert next(changes).dict == {"n": 1}


def test_each_state_comes_once_until_the_time_is_over(cache: Cache) -> None:
    cache.write({"n": 0})
    seen = []
    for payload in cache.changes(0.3):
        seen.append(payload.dict["n"])
        if payload.dict["n"] < 3:
            cache.write({"n": payload.dict["n"] + 1})
    assert seen == []
    changes = cache.changes(AMPLE_S)
    for number in (1, 2, 3):
        cache.write({"n": number})
        assert next(changes).dict == {"n": number}


def test_a_second_write_of_the_same_is_another_state(cache: Cache) -> None:
    cache.write({"n": 0})
    changes = cache.changes(AMPLE_S)
    cache.write({"n": 0})
    assert next(changes).dict == {"n": 0}


@pytest.mark.parametrize("close", ["the iterator", "the cache"])
def test_closing_ends_a_loop_of_another_thread(cache: Cache, close: str) -> None:
    changes = cache.changes()
    seen: list[CacheReadPayload] = []
    looping = threading.Thread(target=lambda: seen.extend(changes))
    looping.start()
    cache.write({"n": 1})
    wait_until(lambda: seen, what="the first change")
    (changes if close == "the iterator" else cache).close()
    looping.join(AMPLE_S)
    assert not looping.is_alive()
    assert [payload.dict for payload in seen] == [{"n": 1}]


def test_what_holds_no_document_is_passed_over(cache: Cache, path: Path) -> None:
    changes = cache.changes(AMPLE_S)
    path.write_text("{broken")
    writing = threading.Timer(0.3, path.write_text, ('{"n": 2}',))
    writing.start()
    assert next(changes).dict == {"n": 2}
    writing.join()


def test_a_loop_that_is_left_keeps_no_thread(cache: Cache) -> None:
    threads = NewThreads()
    cache.write({"n": 0})
    threading.Timer(0.01, cache.write, ({"n": 1},)).start()
    for _ in cache.changes(AMPLE_S):
        break
    wait_until(lambda: not threads.names(), what="only the threads of before")


def test_in_a_forked_child_the_parents_loop_is_over(cache: Cache) -> None:
    changes = cache.changes()
    child = os.fork()
    if child == 0:
        os._exit(len(list(itertools.islice(changes, 1))))
    assert os.waitpid(child, 0)[1] == 0
    cache.write({"n": 1})
    assert next(changes).dict == {"n": 1}


def test_times_are_told_in_iso_8601_too(cache: Cache, path: Path) -> None:
    assert (cache.read().discovered_at, cache.read().stored_at) == ("", "")
    cache.write({"n": 1})
    payload = Cache(path).read()
    moment = path.stat().st_ctime
    for text, seconds in ((payload.discovered_at, payload.last_modified), (payload.stored_at, moment)):
        assert text.endswith("Z") and abs(parsed(text) - seconds) <= 0.001
    assert payload.created_at.count(":") == 2


def parsed(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
