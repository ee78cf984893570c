"""`AsyncCache`: the cache file for programs on an event loop (asyncio)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from miros_cache_net.async_changes import AsyncChanges
from miros_cache_net.async_thread import AsyncThread
from miros_cache_net.cache import Cache
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.one_discovery import AskLease, AwaitLock, AwaitResult, Discover, Need, discovery_steps, under_way
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.inside import refuse_inside

Contents = dict[str, Any]
_Value = TypeVar("_Value")
#: How often a thread that holds the file and waits for a coroutine checks whether the coroutine's loop was closed.
_LOOP_LOOK_S = 0.5


class AsyncCache:
    """As `Cache`, for asyncio: the same methods, awaited.  The loop's thread never waits for a file or a lock.

    ``async with AsyncCache("printers.json") as cache: await cache.read()``.  Methods that take a function also take an
    ``async`` one.  Ordinary functions that discover or modify run on another thread, ``async`` ones and predicates on
    the loop.  A call whose task is cancelled may have been carried out, or may still be running.  Arguments and errors
    are those of `Cache`; the first call raises errors about the file's name or the settings.

    One object may serve several loops.  It keeps two threads while it is in use, and none after `close`.
    """

    def __init__(
        self,
        file_path: str | os.PathLike[str] | None = None,
        *,
        default: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._make: Callable[[], Cache] = lambda: Cache(file_path, default=default, clock=clock)
        self._clock = clock
        self._made: Cache | None = None
        self._making = threading.Lock()
        self._iterators: weakref.WeakSet[AsyncChanges] = weakref.WeakSet()
        self._reading = AsyncThread("cache reader")
        #: Runs changes in FIFO order, and the steps of a discovery, because those take its locks.
        self._changing = AsyncThread("cache writer")

    async def path(self) -> Path:
        """The cache file's absolute path."""
        return await self._reading.call(lambda: self._cache().path)

    async def read(self) -> CacheReadPayload:
        """See `Cache.read`."""
        return await self._reading.call(lambda: self._cache().read())

    async def read_or_repair(self) -> CacheReadPayload:
        """See `Cache.read_or_repair`."""
        return await self._changed(lambda: self._cache().read_or_repair())

    async def write(self, contents: Mapping[str, Any]) -> CacheReadPayload:
        """See `Cache.write`."""
        return await self._changed(lambda: self._cache().write(contents))

    async def update(self, changes: Mapping[str, Any], delete: Iterable[str] = ()) -> CacheReadPayload:
        """See `Cache.update`."""
        return await self._changed(lambda: self._cache().update(changes, delete))

    async def modify(
        self, function: Callable[[Contents], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
    ) -> CacheReadPayload:
        """See `Cache.modify`.  While an ``async`` function waits, all other writers on the host wait for it.

        It may `read`; any other use of this object gets `ModifyRecursion`.  If its task is cancelled or its loop is
        closed, nothing changes.
        """
        with _FromThread(asyncio.get_running_loop()) as waiting:
            return await self._changed(lambda: self._cache().modify(lambda old: waiting.value(function(old))))

    async def wait(
        self,
        predicate: Callable[[CacheReadPayload], bool | Awaitable[bool]] | None = None,
        timeout_s: float | None = None,
    ) -> CacheReadPayload | None:
        """See `Cache.wait`."""
        async with self.changes(timeout_s) as changes:
            await changes.begun()
            if predicate is not None and await _awaited(predicate(payload := await self.read())):
                return payload
            async for payload in changes:
                if predicate is None or await _awaited(predicate(payload)):
                    return payload
        return None

    def changes(self, timeout_s: float | None = None) -> AsyncChanges:
        """See `Cache.changes`: ``async for payload in cache.changes(): ...``.  Must be called on the loop."""
        self._refuse_inside()
        changes = AsyncChanges(self._cache, self._reading, self._changing, timeout_s)
        self._iterators.add(changes)
        return changes

    async def get_or_discover(
        self,
        discovery: Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]],
        timeout_s: float | None = None,
        *,
        force: bool = False,
        keeps: Callable[[str], bool] | None = None,
    ) -> CacheReadPayload:
        """See `Cache.get_or_discover`.

        If the task is cancelled, the next one discovers; an ordinary function that is already running is not
        interrupted, but its result is dropped.
        """
        steps = await self._changed(
            lambda: discovery_steps(
                self._cache(), clock=self._clock, timeout_s=timeout_s, force=force, keeps=keeps
            )
        )  # fmt: skip
        try:
            answer: object = None
            while True:
                need, payload = await self._changing.call(_step, steps, answer)
                if need is None:
                    return cast(CacheReadPayload, payload)
                answer = await self._carry_out(need, discovery)
        finally:
            self._changing.submit(steps.close)

    async def close(self) -> None:
        """See `Cache.close`: end `changes`, the threads and the descriptors."""
        self._refuse_inside()
        for changes in list(self._iterators):
            await changes.close()
        if self._made is not None:
            await self._changing.call(self._made.close)
        self._reading.close()
        self._changing.close()

    async def __aenter__(self) -> AsyncCache:
        await self._reading.call(self._cache)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        await self.close()

    def _cache(self) -> Cache:
        """The first call must be on one of this object's threads, because it reads the settings if no file is named."""
        with self._making:
            if self._made is None:
                self._made = self._make()
        return self._made

    async def _changed(self, change: Callable[[], _Value]) -> _Value:
        self._refuse_inside()
        return await self._changing.call(change)

    def _refuse_inside(self) -> None:
        # The thread that makes the changes waits for the function of `modify`, so it could not refuse a call by that.
        if self._made is not None:
            refuse_inside(self._made.path, self._made)

    async def _carry_out(self, need: Need, discovery: Callable[[], Any]) -> object:
        if isinstance(need, Discover):
            with under_way(self._cache()):
                return await _awaited(await _called(discovery))
        if isinstance(need, AskLease):
            return await _in_thread(self._cache().ask_turn)
        if isinstance(need, AwaitLock):
            await self._await_lock(need)
        if isinstance(need, AwaitResult):
            await self.wait(lambda payload: not payload.expired, need.timeout_s)
        return None

    async def _await_lock(self, need: AwaitLock) -> None:
        loop, free = asyncio.get_running_loop(), asyncio.Event()

        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # The loop may have been closed meanwhile.
                loop.call_soon_threadsafe(free.set)

        timeout_s = await self._changing.call(need.arm, ring)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(free.wait(), timeout_s)


def _step(steps: Generator[Need, Any, CacheReadPayload], answer: object) -> tuple[Need | None, CacheReadPayload | None]:
    try:
        return steps.send(answer), None
    except StopIteration as end:
        return None, end.value


async def _awaited(value: _Value | Awaitable[_Value]) -> _Value:
    return await value if inspect.isawaitable(value) else value


async def _called(function: Callable[[], Any]) -> Any:
    """Call an ``async`` function on the loop, any other on a thread of its own, because it may take long."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        return function()
    return await _in_thread(function)


async def _in_thread(function: Callable[[], _Value]) -> _Value:
    thread = AsyncThread("cache discovery")
    try:
        return await thread.call(function)
    finally:
        thread.close()


class _FromThread:
    """Lets a thread wait for a coroutine on the loop, as long as a task of the loop waits for the thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._over = False

    def __enter__(self) -> _FromThread:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True

    def value(self, given: Any) -> Any:
        """Called on the thread: the result of an awaitable, any other value unchanged."""
        if not inspect.isawaitable(given):
            return given
        coroutine = _awaited(given)
        try:
            running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise
        while True:
            try:
                return running.result(_LOOP_LOOK_S)
            except FutureTimeout as error:
                if running.done():
                    raise  # The coroutine itself raised it.
                if self._over or self._loop.is_closed():
                    running.cancel()
                    raise RuntimeError("nobody waits for the function any more") from error
