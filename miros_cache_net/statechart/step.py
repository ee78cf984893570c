"""One step of a chart as `miros` takes it and shows it, at a third of its price.

Nothing of it is decided anew: the algorithm of `miros` runs as it is.  But it makes its own events and looks up its own
names a hundred times a step, at 1 to 3 us each and more with each signal that a program adds; here they are made once.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable
from types import FunctionType, SimpleNamespace

from miros.activeobject import ActiveObject, Factory
from miros.event import Event, return_status, signals
from miros.hsm import HsmEventProcessor, InstrumentedHsmEventProcessor, SpyTuple, stdlib_datetime

from miros_cache_net.statechart.state import HANDLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_UNHANDLED: Final = int(return_status.UNHANDLED)
_SUPER: Final = int(return_status.SUPER)
_REFLECTION: Final = int(signals.REFLECTION_SIGNAL)
#: Signals up to this one are of miros' own machinery.
HIGHEST_INNER: Final = int(signals.highest_inner_signal)


@functools.cache
def _named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)


_INNER_SIGNALS: Final = {name: number for name, number in signals.items() if number <= HIGHEST_INNER}
#: Shared by all charts: nobody may change them.
_INNER_EVENTS: Final = {number: Event(signal=number) for number in _INNER_SIGNALS.values()}
_REFLECT: Final = _INNER_EVENTS[_REFLECTION]
_QUICK_NAMES: Final = {
    "Event": lambda signal: _INNER_EVENTS[signal],
    "signals": SimpleNamespace(**_INNER_SIGNALS),
    "return_status": SimpleNamespace(**return_status),
    "namedtuple": lambda name, fields: _named_tuple(name, tuple(fields)),
}


def _with_quick_names(method: FunctionType) -> Any:
    names = {**method.__globals__, **_QUICK_NAMES}
    return FunctionType(method.__code__, names, method.__name__, method.__defaults__, method.__closure__)


class _QuickInstruments(InstrumentedHsmEventProcessor):  # type: ignore[misc]
    """Comes in the order of bases just before the class of `miros` whose place it takes."""

    __init__ = _with_quick_names(InstrumentedHsmEventProcessor.__init__)


class QuickFactory(Factory, _QuickInstruments):  # type: ignore[misc]
    """A `Factory` whose states and steps cost less; what it shows in spy and trace is the same."""

    _init_active_object = _with_quick_names(ActiveObject.__init__)
    trans_ = _with_quick_names(HsmEventProcessor.trans_)
    _process = _with_quick_names(HsmEventProcessor.dispatch)

    def __init__(self, name: str) -> None:
        self._init_active_object()
        self.name = name
        self.states: dict[str, Any] = {}

    def dispatch(self, e: Event) -> None:
        """Handle `e`, and keep what `spy` and `trace` show of it."""
        if not self.instrumented:
            self._process(e)
            return
        rtc = self.rtc
        rtc.spy.clear()
        came_from = self.state.fun(self, _REFLECT)
        rtc.tuples.clear()
        self._process(e)
        signal_name, hooked, moment = _told_of(rtc.tuples)
        if not hooked and not self.event.ignored:
            self.full.trace.append(self.TraceTuple(moment, came_from, signal_name, "", self.state.fun(self, _REFLECT)))
        self.full.spy.extend(rtc.spy)

    class StateMethodBlueprint(Factory.StateMethodBlueprint):  # type: ignore[misc]
        """A state's blueprint, whose method does and shows what the one of `miros` does and shows."""

        def __init__(self, name: str, ao: Any) -> None:
            self.name = name
            self.state_method = _state_method(name)
            self.ao = ao


def _told_of(tuples: Any) -> tuple[str, bool, Any]:
    """The signal at work, whether a hook took it, and when."""
    signal_name, moment = "", None
    for each in tuples:
        if each.internal is False and each.recall is False:
            signal_name, moment = each.signal, each.datetime
            if each.hook:
                return signal_name, True, moment
    return signal_name, False, moment


def _state_method(name: str) -> Callable[..., Any]:
    # miros looks for this name in the state that a chart is started in
    def _spy_on(chart: Any, *args: Any) -> Any:
        e = args[-1]
        chart.spied_on, chart.state_name, chart.state_fn = True, name, _spy_on
        if not chart.instrumented:
            return _handled(chart, e, name)
        signal = e.signal
        if signal == _REFLECTION:
            return name
        rtc = chart.rtc
        line = f"{e.signal_name}:{name}"
        rtc.spy.append(line)
        status = _handled(chart, e, name)
        if signal > HIGHEST_INNER:
            hook = status == HANDLED
            if hook:
                rtc.spy.append(f"{line}:HOOK")
            rtc.tuples.append(
                SpyTuple(e.signal_name, name, hook, False, False, False, False, False, False, stdlib_datetime.now())
            )
        return status

    _spy_on.__name__ = name
    return _spy_on


def _handled(chart: Any, e: Event, name: str) -> int:
    handlers = chart._lookup.get(name)
    handler = None if handlers is None else handlers.get(e.signal)
    status: int = _UNHANDLED if handler is None else handler(chart, e)
    if status == _UNHANDLED:
        chart.temp.fun = chart._parents[name]
        return _SUPER
    return status
