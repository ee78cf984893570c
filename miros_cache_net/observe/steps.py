"""What the charts of this process did: one step per event, in one bounded ring per chart.

Only the chart's thread writes its ring; any thread reads it, without a lock.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import get_ident
from time import perf_counter_ns
from typing import Any, Final, NamedTuple, Protocol

from miros_cache_net import limits
from miros_cache_net.observe.moments import MOMENTS
from miros_cache_net.observe.shown import shown_line, shown_payload


class Step(NamedTuple):
    """One event that a chart took from its queue, and the result.

    moment      when it began, by the hybrid clock (`moments`)
    process     the id of the chart's process
    chart       the chart's name
    event       the event's signal name; ``start_at`` for the start of the chart
    from_state  the innermost state before the event; `to_state`: after it
    took_us     the duration in microseconds
    hooks       the states whose handlers handled the event without a transition
    sent        the signal names of the events that its handlers posted or published, in order, at most
                `limits.STEP_SENT`
    spy         the spy lines, while somebody watches them
    payload     the event's payload as text without secrets, while somebody watches payloads
    """

    moment: int
    process: int
    chart: str
    event: str
    from_state: str
    to_state: str
    took_us: int
    hooks: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()
    spy: tuple[str, ...] = ()
    payload: str = ""


class Detail:
    """The costly parts of steps, recorded only while somebody watches them: spy lines and payloads."""

    def __init__(self) -> None:
        self.spy = self.payloads = False
        self._wanted: dict[int, tuple[bool, bool]] = {}

    def in_child(self) -> None:
        """Reset in a forked child, which nobody watches yet."""
        self._wanted.clear()
        self.spy = self.payloads = False

    def want(self, owner: object, spy: bool, payloads: bool) -> None:
        """Set what `owner`, one of possibly several, wants from now on; from any thread."""
        if spy or payloads:
            self._wanted[id(owner)] = spy, payloads
        else:
            self._wanted.pop(id(owner), None)
        wanted = list(self._wanted.values())
        self.spy, self.payloads = any(each[0] for each in wanted), any(each[1] for each in wanted)


DETAIL: Final = Detail()
os.register_at_fork(after_in_child=DETAIL.in_child)
#: The signal names that the running handler has sent, by thread id.
_SENDING: Final[dict[int, list[str]]] = {}

_Raw = tuple[int, int, str, str, str, int, str, tuple[str, ...], tuple[str, ...], str]


def note_sent(signal_name: str) -> None:
    """Record a posted or published event as sent by the step that runs on this thread, if there is one."""
    sent = _SENDING.get(get_ident())
    if sent is not None and len(sent) < limits.STEP_SENT:
        sent.append(signal_name)


class StepRing:
    """The last `limits.CHART_STEPS` steps of one chart; `begin` and `end` are for its own thread.

    hook  set by the chart while a step runs: the state whose handler handled the event without a transition
    """

    __slots__ = (
        "__weakref__",
        "_began_ns",
        "_count",
        "_me",
        "_moment",
        "_outer",
        "_payload",
        "_raw",
        "hook",
        "name",
        "process",
    )

    def __init__(self, name: str) -> None:
        self.name, self.process, self.hook = name, os.getpid(), ""
        self._raw: deque[_Raw] = deque(maxlen=limits.CHART_STEPS)
        self._count = self._moment = self._began_ns = self._me = 0
        self._payload = ""
        self._outer: list[str] | None = None

    def begin(self) -> None:
        """Begin a step, before the event is taken from the queue."""
        self._me = me = get_ident()
        self.hook = self._payload = ""
        # a handler may start another chart, whose start is a separate step on the same thread
        self._outer = _SENDING.get(me)
        _SENDING[me] = []
        self._moment, self._began_ns = MOMENTS.now(), perf_counter_ns()

    def carries(self, payload: Any) -> None:
        """Record the step's payload, before a handler can change it."""
        if DETAIL.payloads:
            self._payload = shown_payload(payload)

    def end(self, event: str, from_state: str, to_state: str, spy: Iterable[str]) -> None:
        """End the step; "" as `event`: there was none."""
        took_ns = perf_counter_ns() - self._began_ns
        sent = _SENDING.pop(self._me, None)
        if self._outer is not None:
            _SENDING[self._me], self._outer = self._outer, None
        if not event:
            return
        self._count += 1
        lines = tuple(map(shown_line, spy)) if DETAIL.spy else ()
        self._raw.append(
            (self._count, self._moment, event, from_state, to_state, took_ns, self.hook,
             tuple(sent) if sent else (), lines, self._payload)
        )  # fmt: skip

    def after(self, number: int) -> tuple[int, list[Step]]:
        """The number of the last step, and the steps after number `number`; from any thread."""
        raw = [each for each in list(self._raw) if each[0] > number]
        return (raw[-1][0] if raw else number), [self._step(each) for each in raw]

    def _step(self, raw: _Raw) -> Step:
        _, moment, event, before, after, took_ns, hook, sent, spy, payload = raw
        hooks = (hook,) if hook else ()
        return Step(
            moment, self.process, self.name, event, before, after, took_ns // 1000, hooks, sent, spy, payload
        )  # fmt: skip


class Ring(Protocol):
    """Steps of one chart, numbered in order."""

    def after(self, number: int) -> tuple[int, list[Step]]:
        """The number of the last step, and the steps after number `number`; from any thread."""


class Recorder:
    """The rings of this process's living charts and of some that are gone.  Thread-safe, without a lock."""

    def __init__(self) -> None:
        self._rings: dict[int, tuple[weakref.ref[Any], StepRing]] = {}
        self._gone: deque[StepRing] = deque(maxlen=limits.GONE_CHARTS)
        self._others: list[Callable[[], Sequence[Ring]]] = []

    def ring(self, chart: Any) -> StepRing:
        """A new ring for `chart`, held weakly."""
        key, ring = id(chart), StepRing(str(chart.name))
        self._rings[key] = weakref.ref(chart, lambda _: self._leave(key)), ring
        return ring

    def also_read(self, rings: Callable[[], Sequence[Ring]]) -> None:
        """Include the result of `rings()`, for charts that do not record here; from any thread."""
        self._others.append(rings)

    def rings(self) -> list[Ring]:
        """All rings of this process: of living charts, and of the last `limits.GONE_CHARTS` gone ones."""
        me = os.getpid()
        known = [*list(self._gone), *(ring for _, ring in list(self._rings.values()))]
        others = [ring for rings in self._others for ring in rings()]
        return [*(ring for ring in known if ring.process == me), *others]

    def _leave(self, key: int) -> None:
        found = self._rings.pop(key, None)
        if found is not None and found[1].after(0)[1]:
            self._gone.append(found[1])


#: The steps of this process.
RECORDER: Final = Recorder()


class StepReader:
    """Reads each step once.  Not thread-safe."""

    def __init__(self, recorder: Recorder = RECORDER) -> None:
        self._recorder = recorder
        self._read: weakref.WeakKeyDictionary[Ring, int] = weakref.WeakKeyDictionary()

    def fresh(self) -> list[Step]:
        """The steps since the last call, by moment; the first call returns all steps in the rings."""
        found: list[Step] = []
        for ring in self._recorder.rings():
            self._read[ring], steps = ring.after(self._read.get(ring, 0))
            found += steps
        return sorted(found)
