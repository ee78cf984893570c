"""Every signal of the project as a constant, and how to make an event from one.

Public signals are UPPER_CASE and travel between charts; three of them travel between hosts too.
Private signals are lower_case and stay inside their chart.  Names are registered with `miros` here, once,
because its registry never forgets a name and each one slows it down.
"""

from __future__ import annotations

from typing import Any, Final

from miros.event import Event, signals

CACHE_FILE_READ: Final = "CACHE_FILE_READ"
CACHE_FILE_WRITE: Final = "CACHE_FILE_WRITE"
CACHE: Final = "CACHE"
CACHE_DESTROY: Final = "CACHE_DESTROY"
CACHE_ERROR: Final = "CACHE_ERROR"

AMQP_CONSUMER_CHECK: Final = "AMQP_CONSUMER_CHECK"
REFACTOR_SEARCH: Final = "REFACTOR_SEARCH"
RECCE_LAN: Final = "RECCE_LAN"
LAN_RECCE_COMPLETE: Final = "LAN_RECCE_COMPLETE"
LAN_RECCE_PROGRESS: Final = "LAN_RECCE_PROGRESS"
CONNECTION_DISCOVERY: Final = "CONNECTION_DISCOVERY"
CONNECTION_READ: Final = "CONNECTION_READ"
EVALUATE_HOSTS_FILE: Final = "EVALUATE_HOSTS_FILE"

PUBLIC_SIGNALS: Final = (
    CACHE_FILE_READ,
    CACHE_FILE_WRITE,
    CACHE,
    CACHE_DESTROY,
    CACHE_ERROR,
    AMQP_CONSUMER_CHECK,
    REFACTOR_SEARCH,
    RECCE_LAN,
    LAN_RECCE_COMPLETE,
    LAN_RECCE_PROGRESS,
    CONNECTION_DISCOVERY,
    CONNECTION_READ,
    EVALUATE_HOSTS_FILE,
)

for _name in PUBLIC_SIGNALS:
    signals.append(_name)


def event(signal_name: str, payload: Any = None) -> Event:
    """An event with the signal `signal_name` (one of the constants, or a chart's private name)."""
    number = signals.get(signal_name)
    if number is None:
        return Event(signal=signal_name, payload=payload)
    # The constructor does the same, but first compares the name with the number of every registered signal.
    made: Event = Event.__new__(Event)
    made.payload, made.signal, made.signal_name = payload, number, signal_name
    return made
