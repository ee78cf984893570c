"""How soon a program knows its LAN's brokers when somebody else found them: ``python -m benchmarks.warm [ROUNDS]``.

A warm start (the file is young) beside a plain read of the file whose result is published, and a warm fleet (no file,
but another host has the document) beside a bare join.  In turns, in processes that have imported everything and have
their settings.  Needs `rabbitmq-server`.  Exits with 1 where a target is missed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.measure import Line, table
from benchmarks.sweep import ORIGINAL_S
from benchmarks.two_hosts import Means, node_settings
from miros_cache_net.cache import Cache
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import RabbitServer

PEERS = [f"192.168.1.{number}" for number in range(1, 9)]
CONTENTS = {
    "addresses": PEERS,
    "amqp_urls": [f"amqp://guest@{peer}:5672/%2F" for peer in PEERS],
    "time_out_in_minutes": 30,
}
#: In one process, after the first.
STARTS = 5
#: So that what ran before has come to rest.
PAUSE_S = 0.02


class Took(NamedTuple):
    """Seconds of one turn each."""

    ours: float
    reference: float


class Subscriber:
    """A bare miros chart that says when its handler gets the peers."""

    def __init__(self) -> None:
        from miros.activeobject import Factory
        from miros.event import Event, return_status, signals

        self._waiting_for, self._at_s, self._heard = "", 0.0, threading.Event()
        self._event = Event
        self._chart = Factory("subscriber")

        def heard(_chart: Any, e: Any) -> Any:
            now_s = time.perf_counter()
            known = getattr(e.payload, "hosts", None) or e.payload.dict.get("addresses")
            if e.signal_name == self._waiting_for and not self._heard.is_set() and list(known) == PEERS:
                self._at_s = now_s
                self._heard.set()
            return return_status.HANDLED

        names = ("CONNECTION_DISCOVERY", "CACHE", "PLAIN")
        state = self._chart.create(state="listening")
        for name in names:
            signals.append(name)
            state.catch(signal=signals[name], handler=heard)
        self._chart.nest(state.to_method(), parent=None)
        for name in names:
            self._chart.subscribe(Event(signal=name))
        self._chart.start_at(state.to_method())

    def publish(self, name: str, payload: Any) -> None:
        self._chart.publish(self._event(signal=name, payload=payload))

    def time_to(self, name: str, act: Callable[[], tuple[Any, ...]]) -> float:
        """Seconds from the beginning of `act` to the handler; the charts that `act` returns are stopped."""
        time.sleep(PAUSE_S)
        self._waiting_for = name
        self._heard.clear()
        began_s = time.perf_counter()
        charts = act()
        if not self._heard.wait(30):
            raise TimeoutError(f"{name} has not come")
        time.sleep(PAUSE_S)
        for chart in charts:
            chart.stop()
        return self._at_s - began_s


# --- in a process of their own ------------------------------------------------------------------------


def warm_starts(pipe: Any, file: str, ours_first: bool) -> None:
    from miros_cache_net import LanChart, Settings, read_cache

    settings, subscriber = Settings(), Subscriber()

    def ours() -> float:
        return subscriber.time_to(
            "CONNECTION_DISCOVERY",
            lambda: (LanChart("cache.#", settings.exchange, cache_file_path=file, settings=settings),),
        )

    def plain() -> tuple[Any, ...]:
        subscriber.publish("PLAIN", read_cache(file))
        return ()

    def reference() -> float:
        return subscriber.time_to("PLAIN", plain)

    for _ in range(1 + STARTS):
        pipe.send(Took(ours(), reference()) if ours_first else Took(*reversed((reference(), ours()))))


def cold_files(pipe: Any, means: Means, rounds: int) -> None:
    from miros_cache_net import CacheNode, LanChart

    subscriber = Subscriber()

    def join(number: int) -> float:
        settings = node_settings(means._replace(directory=means.directory / f"joins-{number}"))
        return subscriber.time_to("CACHE", lambda: (CacheNode(settings=settings),))

    def ours(number: int) -> float:
        settings = node_settings(means._replace(directory=means.directory / f"finds-{number}"))

        def begin() -> tuple[Any, ...]:
            node = CacheNode(settings=settings)
            fleet: dict[str, Any] = {"cache_file_chart": node.file_chart, "ask_turn": node.ask_turn}
            return LanChart("cache.#", settings.exchange, settings=settings, fleet_wait_s=30.0, **fleet), node

        return subscriber.time_to("CONNECTION_DISCOVERY", begin)

    for number in range(rounds):
        pipe.send(Took(ours(number), join(number)) if number % 2 else Took(*reversed((join(number), ours(number)))))


@contextlib.contextmanager
def spawned(target: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """What `target` sends through its pipe, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.join(10)
        process.kill()


# --- the rounds ---------------------------------------------------------------------------------------


def warm_start(directory: Path, processes: int) -> list[Line]:
    file = directory / "lan.json"
    with Cache(file) as cache:
        cache.write(CONTENTS)
    first, later = [], []
    for number in range(processes):
        with spawned(warm_starts, str(file), number % 2 == 0) as pipe:
            first.append(pipe.recv())
            later += [pipe.recv() for _ in range(STARTS)]
    what = "LanChart() on a young file to CONNECTION_DISCOVERY"
    return [
        line(f"{what}, a process's first", "a plain read and a miros publish", first, "<= 2"),
        line(f"{what}, later ones", "a plain read and a miros publish", later, "<= 2"),
    ]


def warm_fleet(directory: Path, rounds: int) -> list[Line]:
    from miros_cache_net import CacheNode

    with RabbitServer() as rabbit:
        means = Means("ours", directory, rabbit.url, generate_key().decode())
        first = CacheNode(settings=node_settings(means._replace(directory=directory / "first")))
        with Cache(first.file_chart.path) as cache:
            cache.write(CONTENTS)
        with spawned(cold_files, means, 1 + rounds) as pipe:
            took = [pipe.recv() for _ in range(1 + rounds)][1:]  # the first one imports
        first.stop()
    cold = [Took(each.ours, ORIGINAL_S) for each in took]
    what = "CacheNode() and LanChart() without a file to CONNECTION_DISCOVERY"
    return [
        line(what, "a join: CacheNode() to the fleet's CACHE", took, "<= 1.5"),
        line(what, "the original's cold discovery", cold),
    ]


def line(what: str, reference: str, took: list[Took], target: str = "") -> Line:
    ours, theirs = (median(each) * 1000 for each in zip(*took, strict=True))
    return Line(what, ours, theirs, "ms", target, f"against {reference}")


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    lines = []
    for measured in (warm_start, warm_fleet):
        with tempfile.TemporaryDirectory() as directory:
            lines += measured(Path(directory), rounds)
    print(table(lines))
    return 1 if any(each.verdict == "NO" for each in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
