"""A program of miros-rabbitmq 0.2.0: it knows nothing of miros-cache-net but the names of three events.

It reads the fleet's document when it starts, writes it now and then, and prints what it hears.
"""

import json
import os
import sys
import time

from miros import Event, return_status, signals
from miros_rabbitmq import NetworkedFactory

SECRETS = "/etc/miros-cache-net"
LAN_FILE = ".miros_rabbitmq_lan_cache.json"
KEYS = ("MESH_ENCRYPTION_KEY", "SNOOP_TRACE_ENCRYPTION_KEY", "SNOOP_SPY_ENCRYPTION_KEY")
HEARS_ITSELF_IN_S = 15.0
EVERY_S = float(os.environ.get("WRITES_EVERY_S", "20"))


def secret(name):
    with open(os.path.join(SECRETS, name)) as file:
        return file.read().split()[0]


def remember(addresses, password):
    """What a discovery leaves behind; with it the old package finds its peers at once."""
    urls = [f"amqp://fleet:{password}@{each}:5672/%2F?connection_attempts=3" for each in addresses]
    with open(LAN_FILE, "w") as file:
        json.dump({"addresses": addresses, "amqp_urls": urls, "time_out_in_minutes": 30}, file)


class Program:
    def __init__(self, name, password, key):
        self.name, self.hears_itself = name, False
        self.chart = NetworkedFactory(
            name,
            "fleet",
            password,
            key,
            tx_routing_key="empty",
            rx_routing_key="empty",
            snoop_trace_encryption_key=key,
            snoop_spy_encryption_key=key,
        )
        state = self.chart.create(state="listening")
        state.catch(signal=signals.CACHE, handler=self.on_cache)
        state.catch(signal=signals.TO_MYSELF, handler=self.on_own)
        listening = state.to_method()
        self.chart.nest(listening, parent=None)
        self.chart.start_at(listening)

    def on_cache(self, e):
        print(f"{self.name} hears CACHE {json.dumps(e.payload, sort_keys=True)}", flush=True)
        return return_status.HANDLED

    def on_own(self, e):
        self.hears_itself = self.hears_itself or e.payload == [self.name]
        return return_status.HANDLED

    def transmit(self, name, payload=None):
        self.chart.transmit(Event(signal=getattr(signals, name), payload=payload))

    def begin(self):
        """Whether it hears itself: it does not when it has missed its own discovery."""
        until = time.monotonic() + HEARS_ITSELF_IN_S
        while not self.hears_itself and time.monotonic() < until:
            self.transmit("TO_MYSELF", [self.name])
            time.sleep(0.2)
        return self.hears_itself


def main(name):
    password, key = secret("rabbit-password"), secret("keys")
    # it encrypts with the environment's keys and decrypts with the arguments'
    os.environ.update(RABBIT_USER="fleet", RABBIT_PASSWORD=password, **dict.fromkeys(KEYS, key))
    remember(os.environ["ADDRESSES"].split(","), password)
    program = Program(name, password, key)
    if not program.begin():
        print(f"{name} has missed its discovery and starts again", flush=True)
        os._exit(1)
    print(f"{name} asks with CACHE_FILE_READ", flush=True)
    program.transmit("CACHE_FILE_READ")
    number = 0
    while True:
        time.sleep(EVERY_S)
        number += 1
        contents = {"written_by": name, "number": number}
        print(f"{name} writes {json.dumps(contents, sort_keys=True)}", flush=True)
        program.transmit("CACHE_FILE_WRITE", contents)


if __name__ == "__main__":
    main(sys.argv[1])
