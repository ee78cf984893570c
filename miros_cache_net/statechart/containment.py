"""Keeps the mistake of one handler from reaching the event processor, which would end the chart's thread."""

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
#: What takes no transition: the processor is in the middle of one.
_NO_TRANSITION: Final = frozenset((int(signals.ENTRY_SIGNAL), int(signals.EXIT_SIGNAL)))


def contained(handler: Handler, state_name: str, targets: tuple[str, ...] | None = None) -> Handler:
    """`handler`, as `miros` calls it, but what it raises or wrongly returns is reported and counts as handled.

    Takes bound methods `(e)` and plain functions `(chart, e)`; `chart` must have `handler_failed`.  `targets`: the
    states that it may go to; None: any.
    """
    takes_chart = not inspect.ismethod(handler)

    def call(chart: Any, e: Event) -> int:
        try:
            status = handler(chart, e) if takes_chart else handler(e)
        except BaseException as exc:
            # On the start path this may be the main thread, whose Ctrl-C belongs to the program.
            if not isinstance(exc, Exception) and threading.current_thread() is not chart.thread:
                raise
            chart.handler_failed(state_name, e.signal_name, f"raised {describe(exc)}", exc)
            return HANDLED
        if type(status) is not int or status not in _STATUSES:
            chart.handler_failed(
                state_name, e.signal_name, f"returned {reprlib.repr(status)}, which is no return_status"
            )
            return HANDLED
        if status >= _TRAN and (refusal := _refusal(e, chart.temp.fun.__name__, targets)):
            chart.handler_failed(state_name, e.signal_name, refusal)
            return HANDLED
        # SUPER without a search for the parent would have the processor ask this state for ever.
        return _UNHANDLED if status == _SUPER else status

    # functools.wraps takes longer than all the rest of declaring a state
    call.__name__ = getattr(handler, "__name__", type(handler).__name__)
    call.__wrapped__ = handler  # type: ignore[attr-defined]
    return call


def _refusal(e: Event, target: str, targets: tuple[str, ...] | None) -> str:
    if e.signal in _NO_TRANSITION:
        return "asked for a transition, which entering or leaving a state cannot make"
    if targets is not None and target not in targets:
        return f"asked for a transition to {target}, where it does not lead by the states of its class"
    return ""


def describe(exc: BaseException) -> str:
    """Type and message of an exception, in one line of bounded length; safe for exceptions that cannot be printed."""
    return " ".join("".join(traceback.format_exception_only(exc)).split())[:300]
