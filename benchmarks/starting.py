"""New processes, and charts that have nothing to do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.contenders import Ours
from benchmarks.document import DOCUMENT
from benchmarks.measure import Line, percentile

BARE_READ = "import json, sys\nwith open(sys.argv[1], 'rb') as file:\n    json.load(file)"
OUR_READ = "import sys\nfrom miros_cache_net import read_cache\nread_cache(sys.argv[1])"
BARE_CHART = """
import os, sys, threading
from miros.activeobject import Factory
from miros.event import Event, return_status, signals
heard = threading.Event()
def hear(chart, e):
    heard.set()
    return return_status.HANDLED
chart = Factory("bare")
state = chart.create(state="waiting").catch(signal=signals.CACHE, handler=hear).to_method()
chart.nest(state, parent=None)
chart.subscribe(Event(signal=signals.CACHE))
chart.start_at(state)
chart.publish(Event(signal=signals.CACHE))
heard.wait(20)
os._exit(0)
"""
OUR_CHART = BARE_CHART.replace(
    "chart.publish(Event(signal=signals.CACHE))",
    "from miros_cache_net import CacheFileChart\n"
    "file_chart = CacheFileChart(sys.argv[1])\n"
    "chart.publish(Event(signal=signals.CACHE_FILE_READ))",
)


def processes(directory: Path, times: int = 40) -> list[Line]:
    """From nothing to the document."""
    ours = Ours(directory)
    ours.write(DOCUMENT)
    ours.close()
    programs = [OUR_READ, BARE_READ, OUR_CHART, BARE_CHART]
    for program in programs:
        _run(program, ours.path)  # leaves compiled modules behind, as an installation does
    wall: dict[str, list[float]] = {program: [] for program in programs}
    cpu: dict[str, list[float]] = {program: [] for program in programs}
    for _ in range(times):
        for program in programs:
            took_ms, used_ms = _run(program, ours.path)
            wall[program].append(took_ms)
            cpu[program].append(used_ms)
    lines = []
    for what, program, bare, target, against in (
        ("plain read_cache process", OUR_READ, BARE_READ, "<= 1.3", "bare Python that reads the file"),
        ("process to first CACHE", OUR_CHART, BARE_CHART, "<= 1.8", "bare miros with one chart"),
    ):
        fastest = min(wall[program]), min(wall[bare])
        lines.append(Line(what, *fastest, "ms", target, f"wall, fastest of {times}, against {against}"))
        medians = percentile(cpu[program], 0.5), percentile(cpu[bare], 0.5)
        lines.append(Line(what, *medians, "ms", "", f"CPU, median, against {against}"))
    return lines


def _run(program: str, path: Path) -> tuple[float, float]:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program, str(path)], environment)
    _, status, usage = os.wait4(pid, 0)
    took_ms = (time.perf_counter() - began) * 1000
    if status:
        raise RuntimeError(f"a program ended with {status}")
    return took_ms, (usage.ru_utime + usage.ru_stime) * 1000


def idle_charts(directory: Path, charts: int = 100, seconds: float = 5.0) -> list[Line]:
    """Memory and CPU of charts that nobody asks anything."""
    from miros_cache_net.cache_chart.chart import CacheFileChart

    first = CacheFileChart(directory / "first.json")
    without = _cpu_ms(seconds)
    before_kb = _resident_kb()
    many = [CacheFileChart(directory / f"{number}.json") for number in range(charts)]
    kb = (_resident_kb() - before_kb) / charts
    time.sleep(0.2)
    with_charts = _cpu_ms(seconds)
    for chart in (first, *many):
        chart.stop()
    return [
        Line(f"memory of an idle chart, of {charts}", kb, 55, "kB", note="against a bare miros one"),
        Line(f"CPU of {charts} idle charts in {seconds:g} s", with_charts, max(without, 0.001), "ms",
             note="against one chart"),
    ]  # fmt: skip


def _cpu_ms(seconds: float) -> float:
    began = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - began) * 1000


def _resident_kb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
