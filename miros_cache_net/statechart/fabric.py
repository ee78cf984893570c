"""The parts of `miros` that all charts of a process share: the fabric for publishing, and the writer of live traces.

This module makes both safe for many threads, churn, dead threads, forks and failing callbacks.

The fabric, the writer and their run flag are singletons of the process, which plain `miros` charts use too.  So this
module replaces none of them: it uses only their own interface, and their subscription lists in ways that cannot break
them.

One limit remains: miros ignores a plain chart that subscribes while it runs, if any chart has ever subscribed to that
signal.  A plain chart must subscribe before it starts, or in its first state's entry handler.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any, Final

from miros.activeobject import ActiveFabric, FabricEvent, FiberThreadEvent, InstrumentionWriter
from miros.event import Event, signals

from miros_cache_net.statechart.forks import PROCESS, in_child

LiveCallback = Callable[[str], Any]

#: The priority at which `miros` publishes by default; 1 is the most urgent.
DEFAULT_PRIORITY: Final = 1000
#: The fabric's heaps do not keep the order of equal priorities, so each publication adds a rising fraction:
#: below 4096 a double resolves 2**-41, and 2**40 publications (3 years at 10,000 a second) stay below 1.
_TURN: Final = 2.0**-40
_KINDS: Final = ("fifo", "lifo")

_turns = itertools.count()


class _Vacant:
    """Takes the place of a removed queue in a subscription list, which the fabric may be iterating at this moment."""

    def append(self, event: Event) -> None:
        pass


_VACANT: Final = _Vacant()


def _fresh_after_fork() -> None:
    for singleton in (FiberThreadEvent, ActiveFabric, InstrumentionWriter):
        singleton.instance = None
    _make_singletons()


def _make_singletons() -> None:
    # Their decorator tests and sets without a lock: threads that build the first charts together would get one each.
    FiberThreadEvent()
    ActiveFabric()
    InstrumentionWriter()


_make_singletons()
in_child(_fresh_after_fork)


def ensure_fabric() -> Any:
    """The running fabric; it is restarted if it was stopped or one of its threads has died."""
    fabric = ActiveFabric()
    if not fabric.is_alive():
        with PROCESS.lock:
            if not fabric.is_alive():
                _restart(fabric)
    return fabric


def _restart(fabric: Any) -> None:
    # start() makes a new thread only for the dead one and loses its reference to the living one: a later start() would
    # add a second thread to that queue, and events would overtake each other.
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


def on_writer(callback: LiveCallback, failed: Callable[[BaseException], None]) -> Callable[[str], None]:
    """`callback`, called on the writer's thread; its first error is passed to `failed`, later ones are ignored."""
    silent = False

    def guarded(line: str) -> None:
        nonlocal silent
        try:
            callback(line)
        except BaseException as exc:
            # Only once: a callback that fails usually fails for each of a thousand lines.
            if not silent:
                silent = True
                failed(exc)

    return lambda line: _write_live(guarded, line)


def print_line(content: object) -> None:
    """Print on the writer's thread, in order with the live lines."""
    _write_live(_print, str(content))


def _print(content: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard output is closed, or its reader is gone
        print(content, flush=True)


def _write_live(function: Callable[[str], None], line: str) -> None:
    """Have the writer's thread call `function(line)`, which must not raise."""
    ensure_writer()._print(fn=function, content=line)


def publish(event: Event, priority: float | None = None) -> None:
    """Pass `event` to every subscriber; events of equal priority (below 4096) keep the order of publication.

    From any thread.  Raises TypeError if `event` is not an Event and ValueError if the priority is not a finite
    number: in the fabric's thread either would end publishing for the whole process.
    """
    if not isinstance(event, Event):
        raise TypeError(f"only a miros Event can be published, not {type(event).__name__}")
    base = float(DEFAULT_PRIORITY if priority is None else priority)
    if not math.isfinite(base):
        raise ValueError(f"a priority must be a finite number, not {priority!r}")
    fabric, moment = ensure_fabric(), base + next(_turns) * _TURN
    # As the fabric's publish(), which wakes both threads each time; one that is not needed would only compete.
    if fabric.lifo_subscriptions.get(event.signal_name):
        fabric.lifo_fabric_queue.put(FabricEvent(event, moment))
    if fabric.fifo_subscriptions.get(event.signal_name):
        fabric.fifo_fabric_queue.put(FabricEvent(event, moment))


def subscribe(queue: Any, signal_name: str, queue_type: str) -> None:
    """From now on `queue` gets the events of that signal; a repeated call changes nothing."""
    fabric = ensure_fabric()
    with PROCESS.lock:
        queues = _subscriptions(fabric, queue_type).setdefault(signal_name, [])
        if any(each is queue for each in queues):
            return
        # In place, in one atomic step: plain charts append to the same list without any lock.
        for index, each in enumerate(queues):
            if each is _VACANT:
                queues[index] = queue
                return
        queues.append(queue)


def unsubscribe(queue: Any, signal_name: str, queue_type: str) -> None:
    """`queue` gets no more events of that signal; without a subscription nothing happens."""
    with PROCESS.lock:
        # The name stays: the fabric checks for it and then takes its list; a removal in between would kill its thread.
        queues = _subscriptions(ActiveFabric(), queue_type).get(signal_name, [])
        for index, each in enumerate(queues):
            if each is queue:
                queues[index] = _VACANT


def subscribers(signal_name: str) -> frozenset[int]:
    """The current subscribers of that signal, as ids to compare."""
    fabric = ActiveFabric()
    queues = [each for kind in _KINDS for each in _subscriptions(fabric, kind).get(signal_name, ())]
    return frozenset(id(each) for each in queues if each is not _VACANT)


def _subscriptions(fabric: Any, queue_type: str) -> dict[str, list[Any]]:
    subscriptions: dict[str, list[Any]] = getattr(fabric, f"{queue_type}_subscriptions")
    return subscriptions


def signal_name_of(event_or_signal: Event | int | str) -> str:
    """The signal name of an event, a signal number or a signal name (registered with `miros` if it is new).

    Raises ValueError for a number that is not a signal, TypeError for anything else.
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
        raise ValueError(f"{event_or_signal} is not a signal that miros knows; give its name, or use signals.<NAME>")
    raise TypeError(f"expected an event, a signal or its name, not {type(event_or_signal).__name__}")


def signal_number_of(signal_name: str) -> int:
    """The number of a signal, which is registered with `miros` if it is new."""
    known = signals.get(signal_name)
    if known is not None:
        return int(known)
    # append() reads the length and then writes: two new names at once would get the same number.
    with PROCESS.lock:
        signals.append(signal_name)
    return int(signals[signal_name])
