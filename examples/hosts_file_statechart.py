"""A statechart that is told which of the brokers in a list answer, by a `ManNetChart`.

It needs a key (`miros-cache-net key new`) and `.miros_rabbitmq_hosts.json` in the working directory:

    echo '{"hosts": ["127.0.0.1"]}' > .miros_rabbitmq_hosts.json
    python hosts_file_statechart.py
"""

import threading

from miros.activeobject import Factory
from miros.event import Event, return_status, signals

from miros_cache_net import CacheNode, ManNetChart


class Program(Factory):
    """Prints each host's verdict, and the good ones together."""

    def __init__(self):
        super().__init__("program")
        self.found = threading.Event()
        listening = (
            self.create(state="listening")
            .catch(signal=signals.ENTRY_SIGNAL, handler=self.on_entry)
            .catch(signal=signals.AMQP_CONSUMER_CHECK, handler=self.on_verdict)
            .catch(signal=signals.CONNECTION_DISCOVERY, handler=self.on_good_hosts)
            .to_method()
        )
        self.nest(listening, parent=None)
        self.start_at(listening)

    @staticmethod
    def on_entry(chart, e):
        chart.subscribe(Event(signal=signals.AMQP_CONSUMER_CHECK))
        chart.subscribe(Event(signal=signals.CONNECTION_DISCOVERY))
        return return_status.HANDLED

    @staticmethod
    def on_verdict(chart, e):
        print(f"{e.payload.ip_address}: {'yes' if e.payload.result else f'no, {e.payload.reason}'}")
        return return_status.HANDLED

    @staticmethod
    def on_good_hosts(chart, e):
        print(f"{e.payload.dispatcher} found {', '.join(e.payload.hosts) or 'nobody'}")
        if e.payload.hosts:
            chart.found.set()
        return return_status.HANDLED


if __name__ == "__main__":
    program = Program()
    with CacheNode() as node, ManNetChart(node):
        program.found.wait(timeout=30)
    program.stop()
