"""Queues calls to a listener: made on a dedicated thread, or on the thread that runs the trampoline."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from miros_cache_net.amqp.containment import Containment

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Mailbox(Protocol):
    """Makes calls in order, one at a time; contains their exceptions."""

    def post(self, function: Callable[..., Any], *args: Any) -> None: ...

    def close(self, timeout_s: float) -> None:
        """Make the calls posted so far; returns when they are done, at the latest after `timeout_s` seconds."""


class ThreadMailbox:
    """A thread that makes the calls."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._contain = Containment(name)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        self._calls.put((function, args))

    def close(self, timeout_s: float) -> None:
        self._calls.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            self._contain.call(call[0], *call[1])


class Trampoline:
    """Makes calls on the thread that calls `run`; one posted during a call is made after it.

    So no listener is ever called from within another's call, and a single-threaded program sees the same order each
    time.
    """

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._contain = Containment("memory broker")
        self._lock = threading.Lock()
        self._held = 0
        self._running = False

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        with self._lock:
            self._calls.append((function, args))

    def run(self) -> None:
        """Make all waiting calls, and those that they post."""
        while (call := self._next()) is not None:
            self._contain.call(call[0], *call[1])
            with self._lock:
                self._running = False

    def close(self, timeout_s: float) -> None:
        self.run()

    def _next(self) -> Call | None:
        with self._lock:
            if self._running or not self._calls:
                return None
            self._running = True
            return self._calls.popleft()
