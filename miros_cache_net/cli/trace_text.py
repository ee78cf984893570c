"""Steps as lines for people, as JSON, and as a sequence diagram for Mermaid."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any, Final, Protocol

from miros_cache_net.cli.exits import printable
from miros_cache_net.fleet.trace_watch import HostStep
from miros_cache_net.observe.moments import split

#: A column grows with what is in it, up to this many characters.
_WIDEST: Final = 34
#: Sent events whose receiver is looked for in a diagram; an event is handled within some steps, or by nobody.
_SENT_REMEMBERED: Final = 1_000


class Form(Protocol):
    """How steps are printed."""

    def lines(self, each: HostStep) -> Iterator[str]:
        """The lines of one step, for a terminal."""


class TextForm:
    """``time  node  chart  event  from -> to``, below it the lines of the spy."""

    def __init__(self) -> None:
        self._widths = [0, 0, 0]
        self._processes: dict[str, set[int]] = {}

    def lines(self, each: HostStep) -> Iterator[str]:
        step, moment_ms = each.step, split(each.step.moment)[0]
        processes = self._processes.setdefault(each.host, set())
        processes.add(step.process)
        where = f"{each.host}:{step.process}" if len(processes) > 1 else each.host
        cells = [printable(cell) for cell in (where, step.chart, step.event)]
        self._widths = [max(width, min(len(cell), _WIDEST)) for width, cell in zip(self._widths, cells, strict=True)]
        padded = [cell.ljust(width) for width, cell in zip(self._widths, cells, strict=True)]
        moment = time.strftime("%H:%M:%S", time.localtime(moment_ms / 1000))
        payload = f"  {printable(step.payload)}" if step.payload else ""
        yield "  ".join([f"{moment}.{moment_ms % 1000:03d}", *padded, printable(_course(each))]) + payload
        yield from (f"{'':14}{printable(line)}" for line in step.spy)


class MermaidForm:
    """A sequence diagram that grows with each step."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int, str], str] = {}
        self._sent: OrderedDict[tuple[str, int, str], deque[str]] = OrderedDict()

    def lines(self, each: HostStep) -> Iterator[str]:
        step = each.step
        if not self._names:
            yield "sequenceDiagram"
        who = (each.node, step.process, step.chart)
        if who not in self._names:
            self._names[who] = f"c{len(self._names) + 1}"
            yield f"    participant {self._names[who]} as {_label(f'{each.host} {step.chart}')}"
        me = self._names[who]
        yield f"    {self._sender(each, me)}->>{me}: {_label(step.event)}"
        if step.from_state != step.to_state:
            yield f"    Note over {me}: {_label(f'{step.from_state} → {step.to_state}')}"
        for event in step.sent:
            self._sent.setdefault((each.node, step.process, event), deque(maxlen=_SENT_REMEMBERED)).append(me)
            if len(self._sent) > _SENT_REMEMBERED:
                self._sent.popitem(last=False)

    def _sender(self, each: HostStep, me: str) -> str:
        """The chart that sent the event last, if its step was seen; every subscriber has it from the same one."""
        senders = self._sent.get((each.node, each.step.process, each.step.event))
        return senders[-1] if senders else me


def as_json(each: HostStep) -> dict[str, Any]:
    """One step as ``--json`` prints it."""
    step, (moment_ms, counter) = each.step, split(each.step.moment)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment_ms / 1000))
    return {
        "time": f"{whole}.{moment_ms % 1000:03d}Z",
        "moment": [moment_ms, counter],
        "node": each.node,
        "host": each.host,
        "process": step.process,
        "chart": step.chart,
        "event": step.event,
        "from": step.from_state,
        "to": step.to_state,
        "took_us": step.took_us,
        "hooks": list(step.hooks),
        "sent": list(step.sent),
        "spy": list(step.spy),
        "payload": step.payload,
    }


def _course(each: HostStep) -> str:
    step = each.step
    if step.from_state != step.to_state:
        return f"{step.from_state} -> {step.to_state}"
    return f"{step.to_state} ({f'handled by {step.hooks[0]}' if step.hooks else 'no change'})"


def _label(text: str) -> str:
    """Text that Mermaid shows as it is: anything that it could interpret is an entity code."""
    return "".join(c if c.isalnum() or c in " ._-/()→" else f"#{ord(c)};" for c in printable(text))
