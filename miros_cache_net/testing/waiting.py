"""Wait for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Between two looks at a condition: short against anything a person notices, long against the look itself.
LOOK_EVERY_S = 0.01


def wait_until(predicate: Callable[[], T], timeout_s: float = 10.0, what: str = "") -> T:
    """Call `predicate` until it is true, and return what it returned then.

    AssertionError after `timeout_s` seconds; its one line says `what` was waited for and what the predicate
    returned, or raised, last.  An AssertionError or OSError raised by the predicate counts as "not yet";
    anything else passes through.
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
