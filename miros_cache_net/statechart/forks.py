"""How a statechart forks: said here once, for all that charts are made of.

A forked child has none of its parent's threads, and any lock may have been held at the fork.  So in the child the
fabric, the timers and whatever else is asked for with `in_child` are made anew before anything else runs.  The parent's
charts stay behind: the child can stop them, to no effect, and all else raises `ChartForked`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final


class _Process:
    """What a process has one of.

    generation  how many forks lie between it and the one that imported the module
    lock        guards what all charts of the process share; a with block keeps the one that it began with
    """

    def __init__(self) -> None:
        self.generation = 0
        self.lock = threading.RLock()


PROCESS: Final = _Process()
_made_anew: Final[list[Callable[[], None]]] = []


def in_child(make_anew: Callable[[], None]) -> None:
    """Have it called in every forked child; it must take no lock that the parent could have held."""
    _made_anew.append(make_anew)


def _after_fork() -> None:
    PROCESS.generation += 1
    PROCESS.lock = threading.RLock()
    for make_anew in _made_anew:
        make_anew()


os.register_at_fork(after_in_child=_after_fork)
