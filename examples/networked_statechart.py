"""An ordinary miros statechart that shares its discovery with every host of the fleet.

Run it on two hosts, or in two directories of one, with the same broker and key:

    python networked_statechart.py --file peers.json --write '{"addresses": ["10.0.0.7"]}'
    python networked_statechart.py --file peers.json

Each prints a line for every CACHE event, as JSON, until it is interrupted.
"""

import argparse
import json
import threading

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net import CacheNode


class Program(Factory):
    """Builds a CacheNode, listens to CACHE, and writes once if it was given something to write."""

    def __init__(self, file_path, document):
        super().__init__("program")
        self.document = document
        self.running = self.create(state="running"). \
            catch(signal=signals.ENTRY_SIGNAL, handler=self.running_entry). \
            catch(signal=signals.CACHE, handler=self.running_CACHE). \
            catch(signal=signals.CACHE_ERROR, handler=self.running_CACHE_ERROR). \
            to_method()
        self.nest(self.running, parent=None)
        self.start_at(self.running)
        self.node = CacheNode(file_path)
        if document is not None:
            self.publish(Event(signal=signals.CACHE_FILE_WRITE, payload=document))

    @staticmethod
    def running_entry(chart, e):
        chart.subscribe(Event(signal=signals.CACHE))
        chart.subscribe(Event(signal=signals.CACHE_ERROR))
        return return_status.HANDLED

    @staticmethod
    def running_CACHE(chart, e):
        cache = e.payload
        print(json.dumps({
            "contents": cache.dict,
            "from": cache.origin,
            "expired": cache.expired,
            "connected": cache.connected,
        }), flush=True)
        return return_status.HANDLED

    @staticmethod
    def running_CACHE_ERROR(chart, e):
        print(json.dumps({"error": e.payload.message}), flush=True)
        return return_status.HANDLED


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", required=True, help="the cache file of this host")
    parser.add_argument("--write", type=json.loads, help="a JSON object to share")
    arguments = parser.parse_args()
    program = Program(arguments.file, arguments.write)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        program.node.stop()
