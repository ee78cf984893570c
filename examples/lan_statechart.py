"""A statechart that is told which brokers its network has, by a `LanChart` that discovers only if nobody has.

It needs a key (`miros-cache-net key new`), and a network that may be sent passwords (docs/how-to/discover-a-lan.md):

    MIROS_CACHE_TRUSTED_NETWORKS=auto python lan_statechart.py
    MIROS_CACHE_DISCOVER=127.0.0.1 python lan_statechart.py      only these hosts, no sweep
"""

import threading

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net import CacheNode, LanChart


class Program(Factory):
    """Waits for its peers; whenever they change, it is told."""

    def __init__(self):
        super().__init__("program")
        self.found = threading.Event()
        waiting = (
            self.create(state="waiting_for_peers")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.on_entry)
            .catch(signal=signals.CONNECTION_DISCOVERY, handler=self.on_peers)
            .to_method()
        )
        self.nest(waiting, parent=None)
        self.start_at(waiting)

    @staticmethod
    def on_entry(chart, e):
        chart.subscribe(Event(signal=signals.CONNECTION_DISCOVERY))
        return return_status.HANDLED

    @staticmethod
    def on_peers(chart, e):
        print(f"{e.payload.dispatcher} found {', '.join(e.payload.hosts) or 'nobody'}")
        chart.found.set()
        return return_status.HANDLED


if __name__ == "__main__":
    program = Program()
    with CacheNode() as node, LanChart(node):
        program.found.wait(timeout=30)
    program.stop()
