"""A thread that calls the program's own methods, so that a slow method does not keep a link from its broker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from miros_cache_net.amqp.mailbox import ThreadMailbox
from miros_cache_net.observe.registry import Counter


class Inbox:
    """Makes calls in FIFO order; calls beyond `bound` waiting ones are dropped, and `dropped` counts them.

    The thread starts with the first call.  `failed` gets a call's exception, on that thread.
    """

    def __init__(self, name: str, bound: int, failed: Callable[[Exception], None], dropped: Counter) -> None:
        self._name, self._bound, self._failed = name, bound, failed
        self._lock = threading.Lock()
        self._mailbox: ThreadMailbox | None = None
        self._waiting = 0
        self._closed = False
        self._dropped = dropped

    def put(self, function: Callable[..., object], *args: Any) -> None:
        """Queue a call of `function`; does nothing after `close`."""
        with self._lock:
            if self._closed:
                return
            if self._waiting >= self._bound:
                self._dropped.add()
                return
            if self._mailbox is None:
                self._mailbox = ThreadMailbox(self._name)
            self._waiting += 1
            self._mailbox.post(self._call, function, args)

    def close(self, timeout_s: float) -> None:
        """Make the calls queued before and end the thread; returns when it has ended, or after `timeout_s`."""
        with self._lock:
            self._closed = True
            mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.close(timeout_s)

    def _call(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        with self._lock:
            self._waiting -= 1
        try:
            function(*args)
        except Exception as error:
            self._failed(error)
