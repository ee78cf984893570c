"""An ordinary miros statechart that pays for a slow discovery once, and finds the result again after a restart.

Run it twice:

    python statechart_cache.py
    python statechart_cache.py
"""

import sys
import threading
import time

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net import CacheFileChart


def slow_discovery():
    """Stands for whatever takes long: a sweep of the network, a survey of a bus, ..."""
    time.sleep(1)
    return {"hosts": ["10.0.0.2", "10.0.0.7"], "time_out_in_minutes": 60}


class Program(Factory):
    """Asks for the cache first; discovers only if what it gets has expired."""

    discovered = False

    def __init__(self):
        super().__init__("program")
        self.done = threading.Event()
        running = (
            self.create(state="running")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.on_entry)
            .catch(signal=signals.CACHE, handler=self.on_cache)
            .catch(signal=signals.CACHE_ERROR, handler=self.on_error)
            .to_method()
        )
        self.nest(running, parent=None)
        self.start_at(running)

    @staticmethod
    def on_entry(chart, e):
        chart.subscribe(Event(signal=signals.CACHE))
        chart.subscribe(Event(signal=signals.CACHE_ERROR))
        chart.cache = CacheFileChart("first_cache.json", watch=True)
        chart.publish(Event(signal=signals.CACHE_FILE_READ))
        return return_status.HANDLED

    @staticmethod
    def on_cache(chart, e):
        cache = e.payload
        if not cache.expired:
            how = "discovered just now" if chart.discovered else f"found, discovered {cache.age_s:.1f} s ago"
            print(f"{cache.dict['hosts']} in {cache.file_name}: {how}")
            chart.done.set()
        elif not chart.discovered:
            print("nothing young enough in the cache: discovering ...", flush=True)
            chart.discovered = True
            chart.publish(Event(signal=signals.CACHE_FILE_WRITE, payload=slow_discovery()))
        return return_status.HANDLED

    @staticmethod
    def on_error(chart, e):
        print(f"{e.payload.reason.value}: {e.payload.message}", file=sys.stderr)
        return return_status.HANDLED


if __name__ == "__main__":
    program = Program()
    program.done.wait(timeout=10)
    program.cache.stop()
    program.stop()
