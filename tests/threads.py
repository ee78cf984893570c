"""The threads of this process that a test has to do with; a system that grants no more of one kind.

Tests that run one after the other share a process.  What earlier ones began may still run, and may end at any time:
nothing is to be compared with all threads of the process.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import pytest

from miros_cache_net.statechart.timers import THREAD_NAME as TIMERS_THREAD

#: What the first chart of a process begins, and all later ones share.
_SHARED = ("active fabric", "thread_runner", TIMERS_THREAD)


class NewThreads:
    """The threads that were started after this was made, and still run."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def names(self, part: str = "") -> list[str]:
        """The names that contain `part`; without it, those of threads that no other chart shares."""
        names = [each.name for each in threading.enumerate() if each not in self._before]
        return sorted(name for name in names if (part in name if part else not any(s in name for s in _SHARED)))


def logged_here(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What this very thread logged."""
    return [each for each in caplog.records if each.thread == threading.get_ident()]


@contextlib.contextmanager
def no_lock_waiters() -> Iterator[None]:
    """No thread is to be had that waits for a lock."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("lock waiter"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield
