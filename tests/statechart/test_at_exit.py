"""Charts in exit handlers: with some releases from Python 3.12 on no thread starts there any more."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.cli_command import run

PROGRAM = """
import atexit
from miros.event import Event
from miros_cache_net import CacheFileChart, ChartError, read_cache
from miros_cache_net.testing import wait_until

chart = CacheFileChart("a.json")

def late():
    chart.publish(Event(signal="CACHE_FILE_WRITE", payload={"late": True}))
    wait_until(lambda: read_cache("a.json").dict, 20)
    print(dict(read_cache("a.json").dict))
    try:
        CacheFileChart("b.json").stop()
        print("started")
    except ChartError as error:
        print(error)
    chart.stop()

atexit.register(late)
"""


def test_running_chart_works_in_an_exit_handler(tmp_path: Path) -> None:
    finished = run(tmp_path, before=(sys.executable, "-c", PROGRAM))
    assert finished.returncode == 0, finished.stderr
    written, second = finished.stdout.splitlines()
    assert (written, finished.stderr) == ("{'late': True}", "")
    # which releases from 3.12 on refuse a thread there has changed more than once
    refused = sys.version_info >= (3, 12) and "the program is ending (atexit)" in second
    assert refused or second == "started"
