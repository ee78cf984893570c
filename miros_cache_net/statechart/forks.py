"""What a fork does to statecharts, in one place for all their parts.

A forked child has none of its parent's threads, and any lock may have been held at the fork.  So the child rebuilds the
fabric, the timers and everything else registered with `in_child` before any other code runs.  The parent's charts do
not work in the child: `stop` has no effect there, and everything else raises `ChartForked`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final


class _Process:
    """State that a process has once.

    generation  the number of forks since the process that imported the module
    lock        guards the state that all charts of the process share; a with block keeps the lock that it began with
    """

    def __init__(self) -> None:
        self.generation = 0
        self.lock = threading.RLock()


PROCESS: Final = _Process()
_made_anew: Final[list[Callable[[], None]]] = []


def in_child(make_anew: Callable[[], None]) -> None:
    """Have `make_anew` called in every forked child; it must not take a lock that the parent could have held."""
    _made_anew.append(make_anew)


def _after_fork() -> None:
    PROCESS.generation += 1
    PROCESS.lock = threading.RLock()
    for make_anew in _made_anew:
        make_anew()


os.register_at_fork(after_in_child=_after_fork)
