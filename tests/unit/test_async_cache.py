"""`AsyncCache`: the cache file on an event loop, whose thread never waits for a file."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net import AsyncCache, Cache, PayloadError
from miros_cache_net.errors import DiscoveryRecursion, DiscoveryTimeout, ModifyRecursion, SettingsError
from miros_cache_net.testing import wait_until
from tests.threads import NewThreads

AMPLE_S = 30.0
HOLDER = """
import sys
from pathlib import Path
from miros_cache_net.store.file_store import FileStore
with FileStore(Path(sys.argv[1])).entered():
    print("held", flush=True)
    sys.stdin.read()
"""


def run(steps: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(steps(), AMPLE_S))


def test_what_is_written_updated_and_modified_is_read(path: Path) -> None:
    async def steps() -> list[Any]:
        async with AsyncCache(path, default={"n": 0}) as cache:
            found = [await cache.read()]
            found.append(await cache.write({"n": 1, "gone": True}))
            found.append(await cache.update({"m": 2}, delete=["gone"]))
            found.append(await cache.modify(lambda old: {**old, "k": 3}))
            found.append(await cache.read())
            assert await cache.path() == path
            return [each.dict for each in found]

    last = {"n": 1, "m": 2, "k": 3}
    assert run(steps) == [{"n": 0}, {"n": 1, "gone": True}, {"n": 1, "m": 2}, last, last]


def test_an_async_function_modifies_with_nobody_in_between(path: Path) -> None:
    async def steps() -> Any:
        async with AsyncCache(path) as cache, AsyncCache(path) as other:

            async def one_more(old: dict[str, Any]) -> dict[str, Any]:
                await asyncio.sleep(0)
                return {"n": old.get("n", 0) + 1}

            await asyncio.gather(*(each.modify(one_more) for each in (cache, other) * 10))
            return (await cache.read()).dict

    assert run(steps) == {"n": 20}


def test_errors_reach_whoever_awaits(path: Path) -> None:
    async def steps() -> None:
        async with AsyncCache(path) as cache:
            with pytest.raises(PayloadError):
                await cache.write({"a": {1}})
            with pytest.raises(ZeroDivisionError):
                await cache.modify(lambda _old: {"n": 1 // 0})
            with pytest.raises(RuntimeError, match="StopIteration"):
                await cache.modify(lambda _old: next(iter([])))
            assert (await cache.read()).dict == {}

    run(steps)


def test_changes_come_in_a_loop_and_wait_waits_for_one(path: Path) -> None:
    async def steps() -> list[Any]:
        seen = []
        async with AsyncCache(path) as cache:
            changes = cache.changes()
            waiting = asyncio.create_task(cache.wait(lambda payload: payload.dict.get("n") == 2))
            await cache.write({"n": 1})
            async for payload in changes:
                seen.append(payload.dict)
                if len(seen) == 2:
                    break
                await cache.write({"n": 2})
            reached = await waiting
            assert reached is not None
            assert await cache.wait(timeout_s=0.01) is None
            return [*seen, reached.dict]

    assert run(steps) == [{"n": 1}, {"n": 2}, {"n": 2}]


def test_closing_ends_the_loops_of_other_tasks(path: Path) -> None:
    async def steps() -> None:
        cache = AsyncCache(path)
        changes = cache.changes()

        async def loop() -> list[Any]:
            return [payload async for payload in changes]

        looping = asyncio.create_task(loop())
        await changes.begun()
        await cache.close()
        assert await looping == []

    run(steps)


# --- discovering ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tasks_threads_and_caches_share_one_discovery(path: Path, kind: str) -> None:
    calls: list[str] = []

    def found() -> dict[str, Any]:
        calls.append(threading.current_thread().name)
        return {"found": len(calls), "time_out_in_minutes": 5}

    async def found_async() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return found()

    async def steps() -> list[Any]:
        async with AsyncCache(path) as cache, AsyncCache(path) as other:
            use: Any = found if kind == "sync" else found_async
            plain = asyncio.to_thread(Cache(path).get_or_discover, found)
            asked = [each.get_or_discover(use) for each in (cache, other) * 5]
            return [payload.dict["found"] for payload in await asyncio.gather(plain, *asked)]

    assert run(steps) == [1] * 11
    assert len(calls) == 1


def test_a_sync_discovery_does_not_hold_up_the_loop(path: Path) -> None:
    async def steps() -> None:
        ticked, loop = threading.Event(), asyncio.get_running_loop()

        def found() -> dict[str, Any]:
            loop.call_soon_threadsafe(ticked.set)
            assert ticked.wait(AMPLE_S)
            return {"n": 1}

        async with AsyncCache(path) as cache:
            assert (await cache.get_or_discover(found)).dict == {"n": 1}

    run(steps)


def test_a_discovery_that_raises_lets_the_next_one_try(path: Path) -> None:
    async def broken() -> dict[str, Any]:
        raise KeyError("no")

    async def steps() -> Any:
        async with AsyncCache(path) as cache, AsyncCache(path) as other:
            with pytest.raises(KeyError):
                await cache.get_or_discover(broken)
            return (await other.get_or_discover(lambda: {"n": 1})).dict

    assert run(steps) == {"n": 1}


def test_a_cancelled_discovery_lets_the_next_one_try(path: Path) -> None:
    async def steps() -> Any:
        begun = asyncio.Event()

        async def endless() -> dict[str, Any]:
            begun.set()
            await asyncio.Event().wait()
            return {}

        async with AsyncCache(path) as cache, AsyncCache(path) as other:
            first = asyncio.create_task(cache.get_or_discover(endless))
            await begun.wait()
            with pytest.raises(DiscoveryTimeout):
                await other.get_or_discover(dict, timeout_s=0.05)
            second = asyncio.create_task(other.get_or_discover(lambda: {"n": 2}))
            first.cancel()
            return (await second).dict

    assert run(steps) == {"n": 2}


@pytest.mark.parametrize("depth", ["itself", "through a thread"])
def test_a_discovery_that_asks_for_its_own_result_is_told(path: Path, depth: str) -> None:
    async def steps() -> None:
        async with AsyncCache(path) as cache:

            async def again() -> Any:
                if depth == "itself":
                    return (await cache.get_or_discover(again)).dict
                return (await asyncio.to_thread(Cache(path).get_or_discover, dict)).dict

            with pytest.raises(DiscoveryRecursion, match="asks for what it is to find"):
                await cache.get_or_discover(again)

    run(steps)


@pytest.mark.parametrize(
    ("use", "which"),
    [
        *itertools.product(["write", "update", "modify", "get_or_discover", "wait"], ["same object", "another object"]),
        ("close", "same object"),
    ],
)
def test_function_of_modify_must_not_use_its_document(path: Path, use: str, which: str) -> None:
    async def steps() -> Any:
        async with AsyncCache(path) as cache, AsyncCache(path) as other:
            used = cache if which == "same object" else other
            uses: dict[str, Callable[[], Awaitable[Any]]] = {
                "write": lambda: used.write({}),
                "update": lambda: used.update({"n": 2}),
                "modify": lambda: used.modify(dict),
                "get_or_discover": lambda: used.get_or_discover(dict, force=True),
                "wait": used.wait,
                "close": used.close,
            }

            async def function(old: dict[str, Any]) -> Any:
                return {"old": (await used.read()).dict, "new": await uses[use]()}

            with pytest.raises(ModifyRecursion, match="have it return the new contents"):
                await cache.modify(function)
            return (await cache.update({"n": 1})).dict

    assert run(steps) == {"n": 1}


def test_task_of_a_modify_may_write_after_it(path: Path) -> None:
    async def steps() -> Any:
        async with AsyncCache(path) as cache:
            over, tasks = asyncio.Event(), []

            async def later() -> Any:
                await over.wait()
                return (await cache.update({"n": 2})).dict

            async def function(_old: dict[str, Any]) -> Any:
                tasks.append(asyncio.create_task(later()))
                return {"n": 1}

            await cache.modify(function)
            over.set()
            return await tasks[0]

    assert run(steps) == {"n": 2}


# --- the loop ---------------------------------------------------------------------------------------------

#: What the interpreter calls of the operating system's files and locks, by the module of the C function.
BLOCKING_MODULES = {"posix", "fcntl", "_io", "io", "_thread.lock"}


def test_no_file_or_lock_is_touched_on_the_loops_thread(path: Path) -> None:
    touched: list[str] = []

    def profile(frame: Any, kind: str, function: Any) -> None:
        module = getattr(function, "__module__", "")
        if kind == "c_call" and module in BLOCKING_MODULES and function is not os.fspath:
            touched.append(f"{function.__module__}.{function.__name__} in {frame.f_code.co_name}")

    async def all_of_it(cache: AsyncCache) -> None:
        changes = cache.changes(AMPLE_S)
        await cache.write({"n": 1, "time_out_in_minutes": 0})
        await anext(changes)
        await cache.update({"m": 2})
        await cache.modify(lambda old: {**old, "k": 3})
        await cache.get_or_discover(lambda: {"n": 2}, force=True)
        await cache.wait(timeout_s=0.01)
        await changes.close()
        assert (await cache.read()).dict == {"n": 2}

    async def steps() -> None:
        async with AsyncCache(path) as cache:
            await all_of_it(cache)  # loads what is loaded late
            sys.setprofile(profile)
            try:
                await all_of_it(cache)
            finally:
                sys.setprofile(None)

    run(steps)
    assert touched == []


def test_closing_the_loop_early_frees_the_file(path: Path) -> None:
    loop = asyncio.new_event_loop()
    inside = threading.Event()
    cache = AsyncCache(path)

    async def never(_old: dict[str, Any]) -> dict[str, Any]:
        inside.set()
        await asyncio.Event().wait()
        return {"n": "never"}

    async def begin() -> None:
        begun.append(loop.create_task(cache.modify(never)))
        while not inside.is_set():
            await asyncio.sleep(0.001)

    begun: list[Any] = []
    loop.run_until_complete(begin())
    loop.close()
    assert Cache(path).write({"n": 1}).dict == {"n": 1}
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def again() -> Any:
        async with cache:
            return (await cache.read()).dict

    assert run(again) == {"n": 1}


def test_a_loop_ends_while_another_program_holds_the_file(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:  # fmt: skip
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        async def steps() -> None:
            cache = AsyncCache(path)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(cache.write({"n": 1}), 0.1)
            assert (await cache.read()).dict == {}

        asyncio.run(steps())
        holder.stdin.close()
    wait_until(lambda: Cache(path).read().dict == {"n": 1}, what="what was asked for in time")


def test_no_thread_is_left_after_close(path: Path) -> None:
    threads = NewThreads()

    async def steps() -> None:
        async with AsyncCache(path) as cache:
            await cache.wait(timeout_s=0.01)
            await cache.get_or_discover(lambda: {"n": 1})

    run(steps)
    wait_until(lambda: not threads.names(), what="only the threads of before")


def test_wrong_settings_are_told_by_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "miros-cache-net.toml").write_text("file = 5\n[")

    async def steps() -> None:
        cache = AsyncCache()
        with pytest.raises(SettingsError):
            await cache.read()

    run(steps)


def test_a_forked_child_may_go_on_using_it(path: Path) -> None:
    cache = AsyncCache(path)
    run(lambda: cache.write({"n": 1}))
    child = os.fork()
    if child == 0:
        os._exit(run(lambda: cache.update({"n": 7})).dict["n"])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    run(cache.close)
