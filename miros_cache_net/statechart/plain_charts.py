"""The steps of charts that a program builds on `miros` itself: read from the trace that `miros` keeps of them.

Nothing of `miros` is replaced, and such a chart pays nothing: it is looked for, by its thread, only while somebody
watches.  Its trace holds its transitions alone, by the machine's clock.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from typing import Any, Final

from miros.hsm import HsmWithQueues

from miros_cache_net import limits
from miros_cache_net.observe.moments import moment_of
from miros_cache_net.observe.steps import Step
from miros_cache_net.statechart.life import LivingFactory


class PlainRing:
    """What `miros` remembers of one chart, with numbers; thread-safe."""

    def __init__(self, chart: Any) -> None:
        self.name, self.process = str(chart.name), os.getpid()
        self._chart = weakref.ref(chart)
        self._lock = threading.Lock()
        self._last: Any = None
        self._count = 0
        self._steps: deque[tuple[int, Step]] = deque(maxlen=limits.CHART_STEPS)

    def after(self, number: int) -> tuple[int, list[Step]]:
        """As `StepRing.after`."""
        with self._lock:
            self._look()
            found = [(count, step) for count, step in self._steps if count > number]
        return (found[-1][0] if found else number), [step for _, step in found]

    def _look(self) -> None:
        chart = self._chart()
        # a copy: the chart's thread keeps adding
        known = list(chart.full.trace) if chart is not None else []
        new = len(known)
        while new and known[new - 1] is not self._last:
            new -= 1
        for line in known[new:]:
            self._last = line
            if line.datetime is not None:
                self._count += 1
                self._steps.append((self._count, self._step(line)))

    def _step(self, line: Any) -> Step:
        moment = moment_of(int(line.datetime.timestamp() * 1000))
        signal = "start_at" if line.signal is None else str(line.signal)
        return Step(moment, self.process, self.name, signal, str(line.start_state), str(line.end_state), 0)


_rings: Final[weakref.WeakKeyDictionary[Any, PlainRing]] = weakref.WeakKeyDictionary()
_guard: Final = threading.Lock()


def plain_rings() -> list[PlainRing]:
    """The rings of all charts of this process that run on `miros` alone."""
    found = []
    for thread in threading.enumerate():
        # `miros` keeps no list of its charts, but each runs as the method of one
        chart = getattr(getattr(thread, "_target", None), "__self__", None)
        if isinstance(chart, HsmWithQueues) and not isinstance(chart, LivingFactory) and chart.instrumented:
            with _guard:
                found.append(_rings.setdefault(chart, PlainRing(chart)))
    return found
