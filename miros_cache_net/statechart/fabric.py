"""Publish and subscribe over the fabric of `miros`, made safe for many threads, churn, dead threads and forks.

The fabric, its writer of live traces and their run flag are singletons of the process that plain `miros`
charts share, so nothing of them is replaced: this module only uses their own interface and their subscription lists
in ways that cannot break them.

What cannot be helped from here: miros ignores a plain chart that subscribes while it runs to a signal that anybody has
ever subscribed to.  A plain chart subscribes before it starts, or in its first state's entry handler.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from typing import Any, Final

from miros.activeobject import ActiveFabric, FabricEvent, FiberThreadEvent, InstrumentionWriter
from miros.event import Event, signals

from miros_cache_net.statechart.forks import PROCESS, in_child

#: What `miros` publishes at when no priority is given; 1 is the most urgent.
DEFAULT_PRIORITY: Final = 1000
#: The fabric's heaps do not keep the order of equal priorities, so each publication adds a rising fraction:
#: below 4096 a double resolves 2**-41, and 2**40 publications (3 years at 10,000 a second) stay below 1.
_TURN: Final = 2.0**-40
_KINDS: Final = ("fifo", "lifo")

_turns = itertools.count()


class _Vacant:
    """Stands in a subscription list where a queue was: the fabric may be walking the list at this moment."""

    def append(self, event: Event) -> None:
        pass


_VACANT: Final = _Vacant()


def _fresh_after_fork() -> None:
    for singleton in (FiberThreadEvent, ActiveFabric, InstrumentionWriter):
        singleton.instance = None
    _make_singletons()


def _make_singletons() -> None:
    # Their decorator tests and sets without a lock: threads that build first charts together would each get one.
    FiberThreadEvent()
    ActiveFabric()
    InstrumentionWriter()


_make_singletons()
in_child(_fresh_after_fork)


def ensure_fabric() -> Any:
    """The running fabric; (re)started if one of its threads has died or it was stopped."""
    fabric = ActiveFabric()
    if not fabric.is_alive():
        with PROCESS.lock:
            if not fabric.is_alive():
                _restart(fabric)
    return fabric


def _restart(fabric: Any) -> None:
    # start() makes only the dead thread anew and loses sight of the living one: a later start() would add a second
    # thread to its queue, and events would overtake each other.
    living = {}
    for kind in _KINDS:
        thread = getattr(fabric, f"{kind}_thread")
        if thread is None:
            thread = _lost_thread(f"{kind} active fabric", getattr(fabric, f"{kind}_fabric_queue"))
            setattr(fabric, f"{kind}_thread", thread)
        if thread is not None and thread.is_alive():
            living[kind] = thread
    fabric.start()
    for kind, thread in living.items():
        setattr(fabric, f"{kind}_thread", thread)


def _lost_thread(name: str, queue: Any) -> threading.Thread | None:
    for thread in threading.enumerate():
        if thread.name == name and any(each is queue for each in getattr(thread, "_args", ())):
            return thread
    return None


def ensure_writer() -> Any:
    """The running writer of live spies and traces."""
    writer = InstrumentionWriter()
    if not writer.is_alive():
        with PROCESS.lock:
            if not writer.is_alive():
                writer.start()
    return writer


def write_live(function: Callable[[str], None], line: str) -> None:
    """Have the writer's thread call `function(line)`; `function` must not raise."""
    ensure_writer()._print(fn=function, content=line)


def publish(event: Event, priority: float | None = None) -> None:
    """Hand `event` to every subscriber, in the order of publication at equal priority (below 4096).

    From any thread.  Raises TypeError for what is no event and ValueError for a priority that is no finite
    number: in the fabric's thread either would end publishing for the whole process.
    """
    if not isinstance(event, Event):
        raise TypeError(f"only a miros Event can be published, not {type(event).__name__}")
    base = float(DEFAULT_PRIORITY if priority is None else priority)
    if not math.isfinite(base):
        raise ValueError(f"a priority must be a finite number, not {priority!r}")
    fabric, moment = ensure_fabric(), base + next(_turns) * _TURN
    # As its own publish() does, but it wakes both threads each time: the other one would only be in the way.
    if fabric.lifo_subscriptions.get(event.signal_name):
        fabric.lifo_fabric_queue.put(FabricEvent(event, moment))
    if fabric.fifo_subscriptions.get(event.signal_name):
        fabric.fifo_fabric_queue.put(FabricEvent(event, moment))


def subscribe(queue: Any, signal_name: str, queue_type: str) -> None:
    """From now on `queue` gets the events of that signal; a second time changes nothing."""
    fabric = ensure_fabric()
    with PROCESS.lock:
        queues = _subscriptions(fabric, queue_type).setdefault(signal_name, [])
        if any(each is queue for each in queues):
            return
        # In place, one atomic step: plain charts append to this very list without any lock.
        for index, each in enumerate(queues):
            if each is _VACANT:
                queues[index] = queue
                return
        queues.append(queue)


def unsubscribe(queue: Any, signal_name: str, queue_type: str) -> None:
    """`queue` gets no more events of that signal; nothing happens if it got none."""
    with PROCESS.lock:
        # The name stays: the fabric looks for it and then takes its list, and would die if it went in between.
        queues = _subscriptions(ActiveFabric(), queue_type).get(signal_name, [])
        for index, each in enumerate(queues):
            if each is queue:
                queues[index] = _VACANT


def subscribers(signal_name: str) -> frozenset[int]:
    """Who gets the events of that signal at this moment, as numbers to compare."""
    fabric = ActiveFabric()
    queues = [each for kind in _KINDS for each in _subscriptions(fabric, kind).get(signal_name, ())]
    return frozenset(id(each) for each in queues if each is not _VACANT)


def _subscriptions(fabric: Any, queue_type: str) -> dict[str, list[Any]]:
    subscriptions: dict[str, list[Any]] = getattr(fabric, f"{queue_type}_subscriptions")
    return subscriptions


def signal_name_of(event_or_signal: Event | int | str) -> str:
    """The name of an event, a signal's number or a signal's name (made known to `miros` if it is new).

    Raises ValueError for a number that is no signal, TypeError for anything else.
    """
    if isinstance(event_or_signal, Event):
        return str(event_or_signal.signal_name)
    if isinstance(event_or_signal, str):
        signal_number_of(event_or_signal)
        return event_or_signal
    if isinstance(event_or_signal, int):
        for name, number in list(signals.items()):
            if number == event_or_signal:
                return str(name)
        raise ValueError(f"{event_or_signal} is no signal that miros knows; name it, or take signals.<NAME>")
    raise TypeError(f"an event, a signal or its name is wanted, not {type(event_or_signal).__name__}")


def signal_number_of(signal_name: str) -> int:
    """The number of a signal, made known to `miros` if it is new."""
    known = signals.get(signal_name)
    if known is not None:
        return int(known)
    # append() reads the length and then writes: two new names at once would get one number.
    with PROCESS.lock:
        signals.append(signal_name)
    return int(signals[signal_name])
