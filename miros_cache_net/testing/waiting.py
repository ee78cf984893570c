"""Wait for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Interval between two checks of a condition: too short for a person to notice, long compared with the check itself.
LOOK_EVERY_S = 0.01

#: How long to wait unless told otherwise: a shared disk that stalls holds every write up for more than ten seconds.
AMPLE_S = 30.0


def wait_until(predicate: Callable[[], T], timeout_s: float = AMPLE_S, what: str = "") -> T:
    """Call `predicate` until its result is true, and return that result.

    Raises AssertionError after `timeout_s` seconds; its one line names `what` was awaited and the predicate's last
    result or exception.  An AssertionError or OSError raised by the predicate counts as "not yet"; any other
    exception reaches the caller.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            result = predicate()
            last = repr(result)
        except (AssertionError, OSError) as error:
            result, last = None, f"{type(error).__name__}: {error}"
        if result:
            return result
        if time.monotonic() >= deadline:
            name = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"waited {timeout_s:g} s in vain for {name}; the last look gave {last}")
        time.sleep(LOOK_EVERY_S)
