"""A thread that makes blocking calls for event loops.

It replaces `asyncio.to_thread`, because a loop that ends waits for its executor's threads, and one of them may be
blocked in the kernel on a file that another program has locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_Job = Callable[[], object]


class AsyncThread:
    """Calls functions on a thread of its own, in FIFO order; the thread starts with the first call.

    Any number of loops may use it, at the same time or in turn, and again after `close`.  A call whose task was
    cancelled or whose loop was closed still runs to completion.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._guard = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] | None = None
        _alive.add(self)

    async def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call `function` on the thread, with the caller's context variables; returns or raises what it does."""
        return await self.start(function, *arguments)

    def start(self, function: Callable[..., _Result], *arguments: Any) -> asyncio.Future[_Result]:
        """As `call`, but returns a future that may be awaited later or not at all."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Result] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            result, error = None, None
            try:
                result = context.run(function, *arguments)
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # The loop may have been closed meanwhile.
                loop.call_soon_threadsafe(_settle, answer, result, error)

        self.submit(job)
        return answer

    def submit(self, job: _Job) -> None:
        """Queue `job`, which must not raise, behind earlier calls; there is no way to wait for it."""
        with self._guard:
            jobs = self._jobs
            if jobs is None:
                jobs = queue.SimpleQueue()
                threading.Thread(target=_serve, args=(jobs,), name=self._name, daemon=True).start()
                self._jobs = jobs  # Not before: a thread that the system refuses is tried again with the next call.
            jobs.put(job)  # With the guard held: behind a `close` on another thread nothing would make the call.

    def close(self) -> None:
        """End the thread once it has made all queued calls; returns without waiting for that."""
        with self._guard:
            jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.put(None)

    def __del__(self) -> None:
        if (jobs := getattr(self, "_jobs", None)) is not None:
            jobs.put(None)

    def _forked(self) -> None:
        self._guard, self._jobs = threading.Lock(), None


def _serve(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # Otherwise it would keep the call's arguments alive while the thread waits.


def _settle(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():
        return
    if isinstance(error, StopIteration):  # A future rejects StopIteration.
        again = RuntimeError("the function raised StopIteration")
        again.__cause__ = error
        error = again
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


_alive: weakref.WeakSet[AsyncThread] = weakref.WeakSet()


def _after_fork() -> None:
    for thread in list(_alive):
        thread._forked()


os.register_at_fork(after_in_child=_after_fork)
