"""A program on a LAN: one recce by a `LanRecceChart`, told as JSON.  ``python -m tests.lan_program``.

Its arguments are candidates; without any, it sweeps.
"""

from __future__ import annotations

import json
import queue
import sys
from typing import Any

from miros_cache_net.discovery.lan_recce import LanRecceChart
from miros_cache_net.events import LAN_RECCE_COMPLETE, LAN_RECCE_PROGRESS, RECCE_LAN, event
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.listener import Listener


def main(candidates: list[str]) -> None:
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = Listener({LAN_RECCE_PROGRESS: heard.put, LAN_RECCE_COMPLETE: heard.put})
    settings = Settings()
    chart = LanRecceChart(
        "#", settings.exchange, candidates=(lambda: candidates) if candidates else None, settings=settings
    )
    chart.post_fifo(event(RECCE_LAN, "asked"))
    progress = []
    while not hasattr(news := heard.get(timeout=60), "other_addresses"):
        progress.append(list(news[:4]))
    result = {**news._asdict(), "checks": {check.ip_address: check.reason for check in news.checks}}
    print(json.dumps({**result, "progress": progress}))
    chart.stop()
    listener.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
