"""One host of the demo: a statechart program, which says what happens to it as lines of JSON.

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

from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.events import AMQP_CONSUMER_CHECK, CACHE, CACHE_ERROR, CONNECTION_DISCOVERY, RECCE_LAN
from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State

TIME_OUT_IN_MINUTES: Final = 30


class HostProgram(Chart):
    """Wants to know its peers: takes them from the cache, from the fleet, or discovers them."""

    STATES = (
        State(
            "running",
            CACHE=STAYS,
            CACHE_ERROR=STAYS,
            RECCE_LAN=STAYS,
            AMQP_CONSUMER_CHECK=STAYS,
            CONNECTION_DISCOVERY=STAYS,
        ),
    )

    def __init__(self, settings: Settings, candidates: list[str]) -> None:
        super().__init__("host_program")
        self.began_s = time.monotonic()
        for name in (CACHE, CACHE_ERROR, RECCE_LAN, AMQP_CONSUMER_CHECK, CONNECTION_DISCOVERY):
            self.subscribe(name)
        self.start_at()
        self.node = CacheNode(settings=settings)
        self.lan = LanChart(
            "cache.#",
            settings.exchange,
            TIME_OUT_IN_MINUTES,
            cache_file_chart=self.node.file_chart,
            candidates=lambda: candidates,
            settings=settings,
            fleet_wait_s=5.0,
            ask_turn=self.node.ask_turn,
        )

    def say(self, what: str, **facts: Any) -> None:
        print(json.dumps({"what": what, "after_s": round(time.monotonic() - self.began_s, 4), **facts}), flush=True)

    def end(self) -> None:
        self.lan.stop()
        self.node.stop()
        self.stop()

    def running_CACHE(self, e: Any) -> int:
        cache = e.payload
        facts = {"origin": cache.origin, "connected": cache.connected, "expired": cache.expired}
        self.say("cache", contents=cache.dict, **facts)
        return HANDLED

    def running_CACHE_ERROR(self, e: Any) -> int:
        self.say("error", reason=e.payload.reason.value, message=e.payload.message)
        return HANDLED

    def running_RECCE_LAN(self, e: Any) -> int:
        self.say("discovering")
        return HANDLED

    def running_AMQP_CONSUMER_CHECK(self, e: Any) -> int:
        check = e.payload
        self.say("scouted", address=check.ip_address, port=check.port, result=check.result, reason=check.reason)
        return HANDLED

    def running_CONNECTION_DISCOVERY(self, e: Any) -> int:
        self.say("peers", hosts=e.payload.hosts)
        return HANDLED


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
