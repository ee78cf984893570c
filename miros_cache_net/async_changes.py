"""Iterates over a document's states, for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

from miros_cache_net.async_thread import AsyncThread
from miros_cache_net.cache import Cache
from miros_cache_net.errors import DocumentError
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.inside import refuse_inside
from miros_cache_net.store.watch import FileWatch


class AsyncChanges:
    """As `store.change_iterator.Changes`, for ``async for``; see `AsyncCache.changes`.

    For one task of the loop on which it was made.  ``async with``, `close` or garbage collection ends it.
    """

    def __init__(
        self, cache: Callable[[], Cache], reading: AsyncThread, changing: AsyncThread, timeout_s: float | None
    ) -> None:  # fmt: skip
        self._cache, self._reading, self._changing = cache, reading, changing
        self._loop = asyncio.get_running_loop()
        self._deadline_s = None if timeout_s is None else self._loop.time() + timeout_s
        self._news = asyncio.Event()
        self._closed = False
        self._watch: FileWatch | None = None
        self._version: str | None = None
        #: Queued with this object's changes, so that those requested from here on are reported.
        self._start: asyncio.Future[None] = changing.start(self._open)

    async def begun(self) -> None:
        """Return once all further changes are reported."""
        # Shielded, because the cancellation of one task must not affect others that wait for it.
        await asyncio.shield(self._start)

    def __aiter__(self) -> AsyncChanges:
        return self

    async def __anext__(self) -> CacheReadPayload:
        await self.begun()
        while not self._closed:
            self._news.clear()
            state = await self._reading.call(self._state)
            if state is not None and state.version != self._version:
                self._version = state.version
                return state
            left_s = None if self._deadline_s is None else self._deadline_s - self._loop.time()
            try:
                await asyncio.wait_for(self._news.wait(), left_s)
            except asyncio.TimeoutError:
                await self.close()
        raise StopAsyncIteration

    async def close(self) -> None:
        """End the iteration, including for another task that waits in it."""
        if not self._closed:
            self._closed = True
            self._news.set()
            await self._changing.call(self._end_watch)

    async def __aenter__(self) -> AsyncChanges:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        await self.close()

    def __del__(self) -> None:
        # An ``async for`` left with `break` does not call `close`.
        if (watch := getattr(self, "_watch", None)) is not None:
            self._changing.submit(watch.close)

    # --- on the threads -----------------------------------------------------------------------------

    def _open(self) -> None:
        path = self._cache().path
        refuse_inside(path)  # it would wait for a change that the caller prevents
        self._watch = FileWatch(path, _ring(self._loop, self._news))
        state = self._state()
        self._version = None if state is None else state.version

    def _end_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def _state(self) -> CacheReadPayload | None:
        try:
            return self._cache().read()
        except DocumentError:
            return None


def _ring(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> Callable[[], None]:
    """The watch's callback; it holds no reference to the iterator, which would keep that alive."""

    def ring() -> None:
        with contextlib.suppress(RuntimeError):  # The loop may have been closed meanwhile.
            loop.call_soon_threadsafe(news.set)

    return ring
