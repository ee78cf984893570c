"""A networked chart that does what its standard input says; the same on the old package and on the adapter.

``python peer.py PACKAGE NAME TX_KEY RX_KEY [trace|spy ...]``: PACKAGE is where `NetworkedFactory` comes from.  Each
line of its input is JSON, ``[command, argument, ...]``; each line of its output that begins with ``=`` is a fact in
JSON, the others are what the package prints.  It knows nothing of this project but PACKAGE, and runs on Python 3.9.
"""

import importlib
import json
import os
import sys
import threading
import time

from miros import Event, return_status, signals

UNHEARD = 75
#: How long an old program is given to hear itself: those that have missed their discovery never do.
HEARS_ITSELF_IN_S = 5.0


def say(**fact):
    # on a line of its own: what the old package prints comes in two writes, its line break in the second
    sys.stdout.write("\n=" + json.dumps(fact) + "\n")
    sys.stdout.flush()


class Peer:
    def __init__(self, package, name, tx, rx, snoops):
        networked = importlib.import_module(package)
        self.own = []
        self.counted = 0
        self.announces = True
        key = os.environ["MESH_ENCRYPTION_KEY"]
        chart = self.chart = networked.NetworkedFactory(
            name,
            os.environ["RABBIT_USER"],
            os.environ["RABBIT_PASSWORD"],
            key,
            tx_routing_key=tx,
            rx_routing_key=rx,
            snoop_spy_encryption_key=os.environ["SNOOP_SPY_ENCRYPTION_KEY"],
            snoop_trace_encryption_key=os.environ["SNOOP_TRACE_ENCRYPTION_KEY"],
        )
        listening = chart.create(state="listening")
        listening.catch(signal=signals.NEWS, handler=self.on_news)
        listening.catch(signal=signals.COUNTED, handler=self.on_counted)
        listening.catch(signal=signals.TO_MYSELF, handler=self.on_own)
        listening.catch(signal=signals.MOVE, handler=self.on_move)
        listening.catch(signal=signals.CACHE, handler=self.on_cache)
        moved = chart.create(state="moved")
        listening, moved = listening.to_method(), moved.to_method()
        self.moved = moved
        chart.nest(listening, parent=None)
        chart.nest(moved, parent=listening)
        for each in snoops:
            getattr(chart, "enable_snoop_" + each)()
        chart.start_at(listening)

    def on_news(self, e):
        say(heard=e.payload, at=time.monotonic())
        return return_status.HANDLED

    def on_cache(self, e):
        say(cache=e.payload, at=time.monotonic())
        return return_status.HANDLED

    def on_counted(self, e):
        """One line for all of a flood."""
        now = time.monotonic()
        self.counted += 1
        number, last = e.payload[0], e.payload[1]
        if self.counted == 1:
            self.first = now
        if number == last:
            say(counted=self.counted, first=self.first, last=now)
            self.counted = 0
        return return_status.HANDLED

    def on_own(self, e):
        self.own.append(e.payload)
        return return_status.HANDLED

    def on_move(self, e):
        return self.chart.trans(self.moved)

    # --- commands -----------------------------------------------------------------------------------

    def hear_itself(self):
        """What tells an old program that works from one that has missed its discovery."""
        until = time.monotonic() + HEARS_ITSELF_IN_S
        while time.monotonic() < until:
            self.chart.transmit(Event(signal=signals.TO_MYSELF, payload=os.getpid()))
            time.sleep(0.1)
            if os.getpid() in self.own:
                return say(hears_itself=True)
        os._exit(UNHEARD)

    def transmit(self, payload):
        self.chart.transmit(Event(signal=signals.NEWS, payload=payload))

    def send(self, name, payload=None):
        """Transmit any event, and tell when."""
        say(sent=name, at=time.monotonic())
        self.chart.transmit(Event(signal=getattr(signals, name), payload=payload))

    def move(self):
        self.chart.post_fifo(Event(signal=signals.MOVE))

    def scribble(self, message):
        self.chart.snoop_scribble(message)

    def pace(self, count, every_s):
        """Transmit the time, `count` times, and tell how long each `transmit` took."""
        took = []
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begin + number * every_s - time.monotonic()))
            now = time.monotonic()
            self.chart.transmit(Event(signal=signals.NEWS, payload=[self.chart.name, number, now]))
            took.append(time.monotonic() - now)
        say(paced=took)

    def announce(self, every_s):
        """Transmit the time again and again, until `hush`."""
        threading.Thread(target=self._announce, args=(every_s,), daemon=True).start()

    def _announce(self, every_s):
        number = 0
        while self.announces:
            self.transmit([self.chart.name, number, time.monotonic()])
            number += 1
            time.sleep(every_s)

    def hush(self):
        self.announces = False

    def flood(self, count, size):
        """Transmit `count` events of `size` bytes as fast as that goes."""
        begin = time.monotonic()
        for number in range(1, count + 1):
            self.chart.transmit(Event(signal=signals.COUNTED, payload=[number, count, "x" * size]))
        say(flooded=count, began=begin, ended=time.monotonic())

    def urls(self):
        say(this=self.chart.this_url())


def main():
    package, name, tx, rx, *snoops = sys.argv[1:]
    began = time.monotonic()
    peer = Peer(package, name, tx, rx, snoops)
    say(started=name, took=time.monotonic() - began)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        getattr(peer, command)(*arguments)
        say(done=command)
    if package != "miros_rabbitmq":
        peer.chart.stop()
    os._exit(0)  # the old package's connections keep its process


if __name__ == "__main__":
    main()
