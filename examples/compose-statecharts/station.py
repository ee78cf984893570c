"""A statechart on every host of a fleet in containers: one surveys, all have the survey, each adds its own report.

    docker build -t miros-cache-net ../..       (once: the image that this one builds on)
    docker compose up --build
    docker compose exec alpha miros-cache-net read
    docker compose down --volumes

`miros-cache-net compose init -n 3 --program station.py` made the files beside this one.
"""

import signal
import socket
import threading
import time

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net import Cache, CacheNode


def survey():
    """Stands for seconds of work that one host does for all."""
    time.sleep(1)
    return {"surveyed_by": socket.gethostname(), "time_out_in_minutes": 60}


class Station(Factory):
    """surveying: until the fleet has a survey that is young.  reporting: this host's report stands beside it."""

    def __init__(self, cache):
        super().__init__(socket.gethostname())
        self.cache = cache
        self.surveying = self.create(state="surveying"). \
            catch(signal=signals.ENTRY_SIGNAL, handler=self.surveying_entry). \
            catch(signal=signals.CACHE, handler=self.surveying_CACHE). \
            to_method()
        self.reporting = self.create(state="reporting"). \
            catch(signal=signals.ENTRY_SIGNAL, handler=self.reporting_entry). \
            catch(signal=signals.CACHE, handler=self.reporting_CACHE). \
            to_method()
        self.nest(self.surveying, parent=None).nest(self.reporting, parent=None)
        self.start_at(self.surveying)

    @staticmethod
    def surveying_entry(chart, e):
        chart.subscribe(Event(signal=signals.CACHE))
        chart.publish(Event(signal=signals.CACHE_FILE_READ))
        return return_status.HANDLED

    @staticmethod
    def surveying_CACHE(chart, e):
        return return_status.HANDLED if e.payload.expired else chart.trans(chart.reporting)

    @staticmethod
    def reporting_entry(chart, e):
        found = chart.cache.update({f"report of {chart.name}": "ready"})
        print(f"{chart.name} reports; surveyed by {found.dict['surveyed_by']}", flush=True)
        return return_status.HANDLED

    @staticmethod
    def reporting_CACHE(chart, e):
        reports = sorted(key for key in e.payload.dict if key.startswith("report of "))
        print(f"{chart.name} knows {len(reports)} reports", flush=True)
        return return_status.HANDLED


if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    with CacheNode() as node, Cache(node.settings.file) as cache:
        node.wait_connected(30)
        cache.get_or_discover(survey, keeps=lambda key: key.startswith("report of "))
        Station(cache)
        ended.wait()
