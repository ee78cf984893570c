"""A watcher's side of traces: what the hosts' answers contain, brought into one order."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.observe.on_the_way import unpacked
from miros_cache_net.observe.steps import Step
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message

#: A step waits this long for earlier ones of other hosts: two sendings, and the way through the broker.
HOLD_S: Final = 3 * limits.TRACE_EVERY_S


class HostStep(NamedTuple):
    """One step, and who took it; `node` and `host` are names."""

    step: Step
    host: str
    node: str


class TraceAnswer(NamedTuple):
    """What one message of one host contains.

    missed  how many steps the rate has kept from this watcher since the last message
    said    why the host does not answer, "" if it does
    """

    node: str
    host: str
    steps: list[HostStep]
    missed: int
    said: str


class OpenWatch:
    """The requests of one watch whose answers count."""

    def __init__(self) -> None:
        self._ids: deque[str] = deque(maxlen=int(limits.TRACE_WATCH_S // limits.TRACE_RENEW_S) + 2)

    def asked(self, message_id: str) -> None:
        """The request with this id was sent."""
        self._ids.append(message_id)

    def answer(self, message: Message) -> TraceAnswer | None:
        """The answer in `message`; None if it is none to this watch."""
        if message.kind != kinds.TRACE or message.answers not in self._ids:
            return None
        body: Mapping[str, Any] = message.body if isinstance(message.body, Mapping) else {}
        host, node = message.origin.host, message.origin.node
        steps = [HostStep(step, host, node) for step in unpacked(body.get("steps"), limits.TRACE_STEPS)]
        missed, said = body.get("missed"), body.get("said")
        return TraceAnswer(
            node,
            host,
            steps,
            missed if type(missed) is int and missed >= 0 else 0,
            said[: limits.STEP_TEXT] if isinstance(said, str) else "",
        )


class InOrder:
    """Brings steps that arrive in any order into that of their moments, by holding each back for `HOLD_S`.

    Bounded: beyond `limits.TRACE_HELD` the earliest are let go at once.
    """

    def __init__(self) -> None:
        self._heap: list[HostStep] = []
        self._arrived: deque[tuple[float, int]] = deque()

    def put(self, steps: list[HostStep], now_s: float) -> None:
        """These have arrived."""
        for each in steps:
            heapq.heappush(self._heap, each)
        if steps:
            self._arrived.append((now_s, max(each.step.moment for each in steps)))

    def ripe(self, now_s: float) -> Iterator[HostStep]:
        """Those that have waited long enough, in order."""
        latest = -1
        while self._arrived and self._arrived[0][0] <= now_s - HOLD_S:
            latest = max(latest, self._arrived.popleft()[1])
        while self._heap and (self._heap[0].step.moment <= latest or len(self._heap) > limits.TRACE_HELD):
            yield heapq.heappop(self._heap)

    def rest(self) -> Iterator[HostStep]:
        """All that still wait, in order."""
        while self._heap:
            yield heapq.heappop(self._heap)
