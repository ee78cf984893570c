"""Which signals other programs may send to this one: none of miros' internal ones, and a bounded number of new ones."""

from __future__ import annotations

import threading
from typing import Final

from miros.event import signals

from miros_cache_net import limits
from miros_cache_net.errors import SignalRefused
from miros_cache_net.statechart.fabric import signal_number_of
from miros_cache_net.statechart.state_method import HIGHEST_INNER


class SignalNames:
    """Checks the signal names of other programs, for a process whose charts share all signals.  Thread-safe.

    A flat state function registers a signal only when it first uses it, so unknown names are accepted too, but at most
    `most` of them, because `miros` never forgets one.
    """

    def __init__(self, most: int = limits.NEW_SIGNALS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._new = 0

    def check(self, name: str) -> None:
        """Register `name` with `miros` if it is new; raises `SignalRefused` if it is internal or over the limit."""
        number = signals.get(name)
        if number is not None:
            if number <= HIGHEST_INNER:
                raise SignalRefused("an event with a signal of miros' own machinery")
            return
        with self._lock:
            if self._new >= self._most:
                raise SignalRefused(
                    f"an event with one more new signal: {self._most} that no program here names came before"
                )
            self._new += 1
        signal_number_of(name)


OF_THIS_PROCESS: Final = SignalNames()
