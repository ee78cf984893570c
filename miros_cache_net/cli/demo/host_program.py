"""One host of the demo: an ordinary statechart program, which says what happens to it as lines of JSON.

Run as ``python -m miros_cache_net.cli.demo.host_program CANDIDATE ...``; file, broker, key and name come from
the settings, as for any program.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from typing import Any, Final

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net.charts.lan import LanChart
from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings

HANDLED: Final = return_status.HANDLED
TIME_OUT_IN_MINUTES: Final = 30
_SIGNALS: Final = ("CACHE", "CACHE_ERROR", "RECCE_LAN", "AMQP_CONSUMER_CHECK", "CONNECTION_DISCOVERY")


class HostProgram(Factory):  # type: ignore[misc]
    """Wants to know its peers: takes them from the cache, from the fleet, or discovers them."""

    def __init__(self, settings: Settings, candidates: list[str]) -> None:
        super().__init__("host_program")
        self.began_s = time.monotonic()
        running = self.create(state="running").catch(signal=signals.ENTRY_SIGNAL, handler=_subscribe)
        for name, handler in zip(_SIGNALS, (_cache, _error, _recce, _check, _peers), strict=True):
            running.catch(signal=getattr(signals, name), handler=handler)
        self.nest(running.to_method(), parent=None)
        self.start_at(running.to_method())
        self.node = CacheNode(settings=settings)
        self.lan = LanChart(
            "cache.#",
            settings.exchange,
            TIME_OUT_IN_MINUTES,
            cache_file_chart=self.node.file_chart,
            candidates=lambda: candidates,
            settings=settings,
            fleet_wait_s=5.0,
        )

    def say(self, what: str, **facts: Any) -> None:
        print(json.dumps({"what": what, "after_s": round(time.monotonic() - self.began_s, 4), **facts}), flush=True)

    def end(self) -> None:
        self.lan.stop()
        self.node.stop()
        self.stop()


def _subscribe(chart: HostProgram, e: Event) -> int:
    for name in _SIGNALS:
        chart.subscribe(Event(signal=name))
    return int(HANDLED)


def _cache(chart: HostProgram, e: Event) -> int:
    cache = e.payload
    facts = {"age_s": None if cache.expired else cache.age_s, "origin": cache.origin, "connected": cache.connected}
    chart.say("cache", contents=cache.dict, expired=cache.expired, **facts)
    return int(HANDLED)


def _error(chart: HostProgram, e: Event) -> int:
    chart.say("error", reason=e.payload.reason.value, message=e.payload.message)
    return int(HANDLED)


def _recce(chart: HostProgram, e: Event) -> int:
    chart.say("discovering")
    return int(HANDLED)


def _check(chart: HostProgram, e: Event) -> int:
    check = e.payload
    chart.say("scouted", address=check.ip_address, port=check.port, result=check.result, reason=check.reason)
    return int(HANDLED)


def _peers(chart: HostProgram, e: Event) -> int:
    chart.say("peers", hosts=e.payload.hosts)
    return int(HANDLED)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    program = HostProgram(Settings(), sys.argv[1:])
    ended.wait()
    program.end()


if __name__ == "__main__":
    main()
