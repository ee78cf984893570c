"""A networked chart as a process: each line of its input is a command, each line of its output what happened.

B 1         transmit a B with this JSON as payload
status      tell peers and counters
stop        end in good order
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from miros.event import Event, return_status, signals

from miros_cache_net.mesh import NetworkedFactory


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Program(NetworkedFactory):
    def on_network_message(self, ch: None, method: Any, properties: Any, payload: Any) -> None:
        say(heard=payload[1].payload, sender=payload[0])


def main(name: str) -> None:
    chart = Program(
        name, os.environ["RABBIT_USER"], os.environ["RABBIT_PASSWORD"], os.environ["MESH_ENCRYPTION_KEY"], "a.b", "a.*"
    )
    chart.create(state="on").catch(signal=signals.B, handler=lambda _chart, _e: return_status.HANDLED)
    chart.start_at("on")
    say(started=name)
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        if command == "stop":
            chart.stop()
            say(stopped=name)
            return
        if command == "status":
            say(peers=chart.other_urls(), counters=chart.nets.counters, connected=chart.nets.mesh.connected)
        else:
            chart.transmit(Event(signal=command, payload=json.loads(rest)))


if __name__ == "__main__":
    main(sys.argv[1])
