"""A program with a `LanChart` that sweeps where it must; file, broker and key come from the environment.

``python -m tests.lan_chart_program [node]``.  Says the hosts of each ``CONNECTION_DISCOVERY`` as a line of JSON, until
its standard input ends.  With `node` it is a member of the fleet.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from miros_cache_net.discovery.lan import LanChart
from miros_cache_net.events import CONNECTION_DISCOVERY
from miros_cache_net.node import CacheNode
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.listener import Listener


def say_hosts(payload: Any) -> None:
    print(json.dumps(payload.hosts), flush=True)


def main(in_fleet: bool) -> None:
    listener, settings = Listener({CONNECTION_DISCOVERY: say_hosts}), Settings()
    node = CacheNode(settings=settings) if in_fleet else None
    fleet: dict[str, Any] = {"cache_file_path": settings.file}
    if node is not None:
        fleet = {"cache_file_chart": node.file_chart, "fleet_wait_s": 60.0, "ask_turn": node.ask_turn}
    lan = LanChart("cache.#", settings.exchange, 30, settings=settings, **fleet)
    sys.stdin.read()
    for chart in (lan, node, listener):
        if chart is not None:
            chart.stop()


if __name__ == "__main__":
    main(sys.argv[1:] == ["node"])
