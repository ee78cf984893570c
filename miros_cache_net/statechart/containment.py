"""Keeps a handler's error from reaching the event processor, where it would end the chart's thread."""

from __future__ import annotations

import inspect
import reprlib
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

from miros.event import Event, return_status, signals

from miros_cache_net.statechart.state import HANDLED

Handler = Callable[..., Any]

_SUPER: Final = int(return_status.SUPER)
_UNHANDLED: Final = int(return_status.UNHANDLED)
_TRAN: Final = int(return_status.TRAN)
_STATUSES: Final = frozenset(int(status) for status in return_status.values())
#: Signals whose handlers cannot make a transition: the processor is in the middle of one.
_NO_TRANSITION: Final = frozenset((int(signals.ENTRY_SIGNAL), int(signals.EXIT_SIGNAL)))


def contained(handler: Handler, state_name: str, targets: tuple[str, ...] | None = None) -> Handler:
    """`handler`, as `miros` calls it; its exceptions and wrong results are reported, and the event counts as handled.

    Takes bound methods `(e)` and plain functions `(chart, e)`; `chart` must have `_handler_failed`.  `targets`: the
    states that the handler may go to; None: any.
    """
    takes_chart = not inspect.ismethod(handler)

    def call(chart: Any, e: Event) -> int:
        try:
            status = handler(chart, e) if takes_chart else handler(e)
        except BaseException as exc:
            # On the start path this may be the main thread, whose Ctrl-C belongs to the program.
            if not isinstance(exc, Exception) and threading.current_thread() is not chart.thread:
                raise
            chart._handler_failed(state_name, e.signal_name, f"raised {describe(exc)}", exc)
            return HANDLED
        if type(status) is not int or status not in _STATUSES:
            chart._handler_failed(
                state_name, e.signal_name, f"returned {reprlib.repr(status)}, which is not a return_status"
            )
            return HANDLED
        if status >= _TRAN and (refusal := _refusal(e, chart.temp.fun.__name__, targets)):
            chart._handler_failed(state_name, e.signal_name, refusal)
            return HANDLED
        # After SUPER without a lookup of the parent the processor would ask this state forever.
        return _UNHANDLED if status == _SUPER else status

    # functools.wraps takes longer than the rest of a state's declaration.
    call.__name__ = getattr(handler, "__name__", type(handler).__name__)
    call.__wrapped__ = handler  # type: ignore[attr-defined]
    return call


def _refusal(e: Event, target: str, targets: tuple[str, ...] | None) -> str:
    if e.signal in _NO_TRANSITION:
        return "asked for a transition, which entering or leaving a state cannot make"
    if targets is not None and target not in targets:
        return f"asked for a transition to {target}, which is not among its targets in STATES"
    return ""


def describe(exc: BaseException) -> str:
    """An exception's type and message in one line of bounded length; safe even if its `__str__` raises."""
    return " ".join("".join(traceback.format_exception_only(exc)).split())[:300]
