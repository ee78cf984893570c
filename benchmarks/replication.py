"""What replication costs, beside bare pika on the same broker and beside Redis: ``python -m benchmarks.replication``.

Needs `rabbitmq-server`; `redis-server` is left out where it is not installed.  Every contender takes its turn in one
run, with the same document.  Exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.idle_fleet import idle_fleet
from benchmarks.joining import Answering, joins
from benchmarks.measure import Line, percentile, table
from benchmarks.redis_plain import redis_servers
from benchmarks.two_hosts import EndProcess, Means, body
from miros_cache_net.cache import Cache
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import RabbitServer, wait_until

#: Keys that a burst of updates goes round in.
BURST_KEYS = 100
#: Between single writes: faster than ten in a row, 100 a second, they would be held back.
PAUSE_S = 0.01


class Pair:
    """Both ends of one contender."""

    def __init__(self, name: str, means: Means) -> None:
        self.name = name
        self.file = means.directory / f"{means.kind}-a" / "cache.json"
        self.a = EndProcess(means._replace(directory=means.directory / f"{means.kind}-a"))
        self.b = EndProcess(means._replace(directory=means.directory / f"{means.kind}-b"))
        self.last = 0

    def send(self) -> float:
        """Seconds from one write on A to its arrival at B's subscriber."""
        self.last += 1
        self.a.ask("send", self.last)
        began_s, _free_s = self.a.answer()
        return self.b.heard(self.last) - float(began_s)

    def sustain(self, count: int) -> tuple[float, float]:
        """Seconds until the writer was free, and until the last of `count` writes was at B's subscriber."""
        first, self.last = self.last + 1, self.last + count
        self.a.ask("sustain", first, count)
        began_s, free_s = self.a.answer()
        return free_s - began_s, self.b.heard(self.last) - began_s

    def close(self) -> None:
        self.a.close()
        self.b.close()


class OurPair(Pair):
    """Ours: sustained writes are those of a third program of host A."""

    def connected(self) -> bool:
        return all(self._counters(end).get("connected") for end in (self.a, self.b))

    def sustain(self, count: int) -> tuple[float, float]:
        first, self.last = self.last + 1, self.last + count
        with Cache(self.file) as cache:
            began_s = time.monotonic()
            for n in range(first, first + count):
                cache.write(body(n))
            free_s = time.monotonic()
            return free_s - began_s, self.b.heard(self.last) - began_s

    def burst_of_events(self, count: int) -> tuple[float, int]:
        """Published as fast as that goes: seconds until B has the last one (inf: never), and messages that came."""
        before = self._received()
        try:
            _free_s, all_s = super().sustain(count)
        except TimeoutError:
            all_s = float("inf")
        return all_s, self._received() - before

    def burst_of_updates(self, count: int) -> tuple[float, int]:
        """Another program's updates: seconds until B has all of them, and messages that came."""
        before = self._received()
        self.last += 1
        with Cache(self.file) as here, Cache(self.file.parents[1] / "ours-b" / "cache.json") as there:
            began_s = time.monotonic()
            for n in range(count):
                here.update({f"key {n % BURST_KEYS}": n})
            here.update({"n": self.last})
            seconds = self.b.heard(self.last) - began_s
            expected = {**here.read().dict, **{f"key {n % BURST_KEYS}": n for n in range(count)}}
            wait_until(lambda: there.read().dict == expected, what="the right state at B")
        return seconds, self._received() - before

    def _received(self) -> int:
        return int(self._counters(self.b).get("received_CACHE", 0))

    @staticmethod
    def _counters(end: EndProcess) -> dict[str, int]:
        end.ask("counters")
        return dict(end.answer())


def propagation(pairs: list[Pair], rounds: int) -> list[Line]:
    taken: dict[str, list[float]] = {pair.name: [] for pair in pairs}
    for number in range(rounds + 10):
        for pair in pairs:
            # single writes, each from rest: what a row of them costs is measured as such, and nobody's turn begins with
            # what the one before has left to do
            time.sleep(PAUSE_S)
            seconds = pair.send()
            if number >= 10:
                taken[pair.name].append(seconds)
    lines = []
    for share, label in ((0.5, "p50"), (0.99, "p99")):
        ours, *others = [percentile(taken[pair.name], share) * 1000 for pair in pairs]
        for pair, other in zip(pairs[1:], others, strict=True):
            target = "<= 2.5" if (pair.name, label) == ("bare pika", "p50") else ""
            lines.append(Line(f"write on A to CACHE on B, {label}", ours, other, "ms", target, _against(pair)))
    return lines


def sustained(pairs: list[Pair], count: int, rounds: int) -> list[Line]:
    rates: dict[str, list[float]] = {pair.name: [] for pair in pairs}
    for _ in range(rounds):
        for pair in pairs:
            rates[pair.name].append(count / pair.sustain(count)[1])
    ours, *others = [statistics.median(rates[pair.name]) for pair in pairs]
    return [
        Line("replicated writes", ours, other, "/s", ">= 0.7" if pair.name == "bare pika" else "", _against(pair))
        for pair, other in zip(pairs[1:], others, strict=True)
    ]


def bursts(ours: OurPair, count: int) -> list[Line]:
    events_s, event_messages = ours.burst_of_events(count)
    updates_s, update_messages = ours.burst_of_updates(count)
    return [
        Line(f"the last of {count} published writes is at B", float(events_s < float("inf")), 1, "", ">= 1"),
        Line(f"messages for {count} published writes", event_messages, count, "", "<= 0.2", f"{events_s:.1f} s"),
        Line(f"messages for {count} updates", update_messages, count, "", "<= 0.2", f"{updates_s:.1f} s"),
    ]


def joining(means: Means, ports: dict[str, int], rounds: int) -> list[Line]:
    answering = Answering(means.url, json.dumps(body(1)).encode())
    taken = joins(means._replace(directory=means.directory / "joins"), means.url, list(ports.values()), rounds)
    answering.close()
    medians = {way: statistics.median(seconds) * 1000 for way, seconds in taken.items()}
    names = {f"redis {port}": name for name, port in ports.items()}
    names |= {"raw": "bare pika", "raw, kept in a file": "bare pika, the answer written durably"}
    return [
        Line("join, p50", medians["ours"], median, "ms", "<= 2.5" if way == "raw" else "", f"against {names[way]}")
        for way, median in medians.items()
        if way != "ours"
    ]


def _against(pair: Pair) -> str:
    return f"against {pair.name}"


def measure(directory: Path, chosen: argparse.Namespace) -> tuple[list[Line], str]:
    lines: list[Line] = []
    with RabbitServer() as rabbit, redis_servers(directory) as ports:
        means = Means("ours", directory, rabbit.url, key=generate_key().decode())
        ours = OurPair("ours", means)
        pairs = [ours, Pair("bare pika", means._replace(kind="raw"))]
        for name, port in ports.items():
            place = directory / str(port)
            pairs.append(Pair(name, means._replace(kind="redis", directory=place, port=port)))
        wait_until(ours.connected, timeout_s=60, what="both hosts to join")
        for name in chosen.names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            if name == "propagation":
                lines += propagation(pairs, chosen.rounds)
            elif name == "sustained":
                lines += sustained(pairs, chosen.writes, 5)
            elif name == "bursts":
                lines += bursts(ours, chosen.burst)
            elif name == "join":
                ours.send()
                lines += joining(means, ports, chosen.joins)
        for pair in pairs:
            pair.close()
        idle = idle_fleet(directory / "idle", rabbit.url, chosen.idle_s) if "idle" in chosen.names else ""
    return lines, idle


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replication", description=__doc__)
    every = ["propagation", "sustained", "bursts", "join", "idle"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(every)}")
    parser.add_argument("--directory", type=Path, help="where the files are kept; name a real disk, not a tmpfs")
    parser.add_argument("--rounds", type=int, default=300, help="writes whose way is timed")
    parser.add_argument("--writes", type=int, default=300, help="sustained writes, five times")
    parser.add_argument("--burst", type=int, default=10_000)
    parser.add_argument("--joins", type=int, default=20)
    parser.add_argument("--idle-s", type=float, default=30.0)
    chosen = parser.parse_args()
    chosen.names = chosen.names or every
    if unknown := set(chosen.names) - set(every):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(dir=chosen.directory, ignore_cleanup_errors=True) as directory:
        lines, idle = measure(Path(directory), chosen)
    print("\n\n".join(part for part in (table(lines) if lines else "", idle) if part))
    return 1 if any(line.verdict == "NO" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
