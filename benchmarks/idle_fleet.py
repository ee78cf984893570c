"""What hosts cost that have nothing to say: memory, threads, CPU, messages.

One host and ten are real processes, each a `CacheNode` on a directory of its own.  A hundred are bridges without
charts and files in one process (`tests.light_hosts`), since what grows with the fleet is the links.
"""

from __future__ import annotations

import heapq
import itertools
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.followers import cpu_s, private_kb
from benchmarks.two_hosts import Means, node_settings
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import wait_until
from tests.light_hosts import LightHost, LightHosts


class Idle(NamedTuple):
    """Of one fleet: medians of its processes, and messages through the exchange."""

    hosts: str
    private_mb: float
    threads: float
    cpu_share: float
    messages_s: float


def idle_fleet(directory: Path, url: str, idle_s: float) -> str:
    rows = [_real_hosts(directory, url, count, idle_s) for count in (1, 10)]
    rows.append(_light_hosts(directory, url, 100, idle_s))
    lines = ["| hosts | private memory | threads | idle CPU, of a core | messages/s, the fleet |",
             "| --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    lines += [
        f"| {row.hosts} | {row.private_mb:.1f} MB | {row.threads:.0f} | {row.cpu_share:.2%} | {row.messages_s:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


class Overheard:
    """Counts every message of the fleets' exchange."""

    def __init__(self, url: str, exchange: str) -> None:
        import pika

        self.count = 0
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = self._connection.channel()
        channel.exchange_declare(exchange, "topic", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, exchange, "#")
        channel.basic_consume(queue, lambda *_: self._heard(), auto_ack=True)
        self._channel = channel
        self._thread = threading.Thread(target=channel.start_consuming, daemon=True)
        self._thread.start()

    def _heard(self) -> None:
        self.count += 1

    def close(self) -> None:
        self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join(10)
        self._connection.close()


def _observe(name: str, pids: list[int], url: str, exchange: str, idle_s: float, share: int = 1) -> Idle:
    """`share`: how many hosts one process is."""
    # what follows a join has been said by then
    time.sleep(min(idle_s, 10))
    overheard = Overheard(url, exchange)
    before = {pid: cpu_s(pid) for pid in pids}
    time.sleep(idle_s)
    used = [(cpu_s(pid) - before[pid]) / idle_s / share for pid in pids]
    messages_s = overheard.count / idle_s
    overheard.close()
    return Idle(
        name,
        statistics.median(private_kb(pid) for pid in pids) / 1024 / share,
        statistics.median(len(os.listdir(f"/proc/{pid}/task")) for pid in pids) / share,
        statistics.median(used),
        messages_s,
    )


def _real_hosts(directory: Path, url: str, count: int, idle_s: float) -> Idle:
    context = multiprocessing.get_context("spawn")
    key, over = generate_key().decode(), context.Event()
    joined = context.Semaphore(0)
    processes = []
    for number in range(count):
        means = Means("ours", directory / f"{count}-{number}", url, key)
        processes.append(context.Process(target=_host, args=(means, joined, over), daemon=True))
        processes[-1].start()
    for _ in processes:
        if not joined.acquire(timeout=60):
            raise TimeoutError("a host has not joined")
    pids = [process.pid for process in processes if process.pid is not None]
    exchange = node_settings(Means("ours", directory, url, key)).exchange
    idle = _observe(f"{count}, each a process", pids, url, exchange, idle_s)
    over.set()
    for process in processes:
        process.join(10)
    return idle


def _host(means: Means, joined: Any, over: Any) -> None:
    from miros_cache_net import CacheNode

    node = CacheNode(settings=node_settings(means))
    wait_until(lambda: node.connected, timeout_s=60, what="the join")
    joined.release()
    over.wait()
    node.stop()


class Alarms:
    """Calls functions later, all on one thread: a hundred hosts' digests need no hundred timers."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Callable[[], None]:
        cancelled = threading.Event()
        due = (time.monotonic() + delay_s, next(self._numbers), lambda: None if cancelled.is_set() else function())
        with self._changed:
            heapq.heappush(self._due, due)
            self._changed.notify()
        return cancelled.set

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _at_s, _number, function = heapq.heappop(self._due)
            function()


class IdleHost(LightHost):
    """A light host that also sends its digests."""

    alarms: Alarms

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        return self.alarms.call_later(delay_s, lambda: self.bridge_event(name, payload))


def _light_hosts(directory: Path, url: str, count: int, idle_s: float) -> Idle:
    means = Means("ours", directory / "light", url, generate_key().decode())
    context = multiprocessing.get_context("spawn")
    joined, over = context.Semaphore(0), context.Event()
    process = context.Process(target=_crowd, args=(means, count, joined, over), daemon=True)
    process.start()
    if not joined.acquire(timeout=120):
        raise TimeoutError("a hundred hosts have not joined")
    assert process.pid is not None
    exchange = node_settings(means).exchange
    idle = _observe(f"{count}, a share of one process", [process.pid], url, exchange, idle_s, share=count)
    over.set()
    process.join(60)
    return idle


def _crowd(means: Means, count: int, joined: Any, over: Any) -> None:
    from miros_cache_net.fleet.links import rabbit_link

    IdleHost.alarms = Alarms()
    with LightHosts(node_settings(means), rabbit_link) as hosts:
        made = [IdleHost(hosts, f"host-{number}") for number in range(count)]
        hosts.hosts += made
        for host in made:
            host.bridge.start()
        wait_until(lambda: all(host.in_sync for host in made), timeout_s=120, what="the joins")
        made[0].write({"n": 1, "at": SYSTEM_CLOCK.wall_ms()})
        wait_until(lambda: all(host.document.contents for host in made), timeout_s=60, what="one document in all")
        joined.release()
        over.wait()
