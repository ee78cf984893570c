"""Ships that tell each other where they are: a class of its own, routing keys of two words, a key for each network.

Start a herd of them, each in any number of processes:

    export RABBIT_USER=guest RABBIT_PASSWORD=guest
    for key in MESH SNOOP_TRACE SNOOP_SPY; do
        export ${key}_ENCRYPTION_KEY=$(openssl rand -base64 32 | tr +/ -_)
    done
    python networked_ships.py tug 60 & python networked_ships.py ferry 60

Under `miros-rabbitmq` the same program has another import line: `from miros_rabbitmq import NetworkedFactory`.
"""

import os
import random
import sys
import time

from miros.event import Event, return_status, signals

from miros_cache_net.mesh import NetworkedFactory


class Ship(NetworkedFactory):
    """Sails, and answers every HAIL of another ship with its own position."""

    def __init__(self, name, harbour, spy_key, trace_key):
        self.name = name
        super().__init__(
            self.name,
            os.environ["RABBIT_USER"],
            os.environ["RABBIT_PASSWORD"],
            os.environ["MESH_ENCRYPTION_KEY"].encode(),
            tx_routing_key=f"{harbour}.ship",
            rx_routing_key=f"{harbour}.*",
            snoop_spy_encryption_key=spy_key,
            snoop_trace_encryption_key=trace_key,
        )
        self.position = [random.randint(0, 99), random.randint(0, 99)]
        self.sailing = self.create(state="sailing"). \
            catch(signal=signals.ENTRY_SIGNAL, handler=self.sailing_entry). \
            catch(signal=signals.hail_all, handler=self.sailing_hail_all). \
            catch(signal=signals.HAIL, handler=self.sailing_HAIL). \
            catch(signal=signals.POSITION, handler=self.sailing_POSITION). \
            to_method()
        self.nest(self.sailing, parent=None)

    @staticmethod
    def sailing_entry(ship, e):
        ship.post_fifo(Event(signal=signals.hail_all), times=0, period=1.0, deferred=True)
        return return_status.HANDLED

    @staticmethod
    def sailing_hail_all(ship, e):
        ship.transmit(Event(signal=signals.HAIL, payload=ship.name))
        return return_status.HANDLED

    @staticmethod
    def sailing_HAIL(ship, e):
        ship.transmit(Event(signal=signals.POSITION, payload={"ship": ship.name, "at": ship.position, "to": e.payload}))
        return return_status.HANDLED

    @staticmethod
    def sailing_POSITION(ship, e):
        if e.payload["to"] == ship.name:
            ship.snoop_scribble("{} is at {}".format(e.payload["ship"], e.payload["at"]), enable_color=False)
        return return_status.HANDLED


name = sys.argv[1] if len(sys.argv) > 1 else f"ship-{os.getpid()}"
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60

ship = Ship(
    name,
    "harbour",
    spy_key=os.environ["SNOOP_SPY_ENCRYPTION_KEY"].encode(),
    trace_key=os.environ["SNOOP_TRACE_ENCRYPTION_KEY"].encode(),
)
ship.enable_snoop_trace_no_color()
ship.enable_snoop_spy_no_color()
ship.start_at(ship.sailing)
time.sleep(seconds)
ship.stop()
