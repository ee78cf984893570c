"""`python -m benchmarks.thousand_hosts`: a thousand hosts on one private broker, as one machine can have them.

The hosts are bridges without charts and files (`tests.light_hosts`), in a few processes: what grows with a fleet is its
links.  Each is linked as every host is, with two connections of its own, and sends its digests.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.followers import cpu_s
from benchmarks.idle_fleet import Alarms, IdleHost, Overheard
from benchmarks.two_hosts import Means, body, node_settings
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import RabbitServer, wait_until

#: Descriptors: two connections of a host at the broker; two and a pair of sockets to wake it in its process.
DESCRIPTORS = 16_384
PATIENCE_S = 600.0


class TimedHost(IdleHost):
    """A light host that remembers when it joined last, and when its document changed last."""

    joined_s = heard_s = 0.0

    def _joined(self) -> None:
        super()._joined()
        self.joined_s = time.monotonic()

    def _store(self, document: Any) -> None:
        before = self.document
        super()._store(document)
        if self.document is not before:
            self.heard_s = time.monotonic()


class Seen(NamedTuple):
    """Of one process's hosts: how many have joined since, how many have document `n`, and when the last one did."""

    joined: int
    joined_s: float
    has_it: int
    heard_s: float


def crowd(means: Means, first: int, count: int, pipe: Connection) -> None:
    """A process with `count` hosts, which does as the other end of `pipe` says until that says nothing more."""
    from miros_cache_net.fleet.links import rabbit_link
    from tests.light_hosts import LightHosts

    IdleHost.alarms = Alarms()
    with LightHosts(node_settings(means), rabbit_link) as hosts:
        made = [TimedHost(hosts, f"host-{number}") for number in range(first, first + count)]
        hosts.hosts += made
        while (command := pipe.recv()) is not None:
            what, value = command
            if what == "start":
                for host in made[slice(*value)]:
                    host.bridge.start()
            elif what == "write":
                made[0].write(body(value))
            else:
                since, n = value
                joined = [host.joined_s for host in made if host.joined_s > since]
                heard = [host.heard_s for host in made if host.document.contents.get("n") == n]
                pipe.send(Seen(len(joined), max(joined, default=0.0), len(heard), max(heard, default=0.0)))


class Crowds:
    """All the processes of the hosts."""

    def __init__(self, means: Means, hosts: int, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.hosts, self._pipes, self.processes = hosts, [], []
        shares = [hosts // processes + (number < hosts % processes) for number in range(processes)]
        for number, share in enumerate(shares):
            ours, theirs = context.Pipe()
            arguments = (means._replace(directory=means.directory / str(number)), sum(shares[:number]), share, theirs)
            self.processes.append(context.Process(target=crowd, args=arguments, daemon=True))
            self.processes[-1].start()
            self._pipes.append(ours)

    def start_first(self) -> None:
        """One host, which is in step and holds a document when this returns."""
        self._pipes[0].send(("start", (0, 1)))
        wait_until(lambda: self.look(0.0).joined == 1, PATIENCE_S, "the first host")
        self.write(-1)

    def start_others(self, *, cold: bool) -> None:
        for number, pipe in enumerate(self._pipes):
            pipe.send(("start", (0 if number or cold else 1, None)))

    def write(self, n: int) -> None:
        self._pipes[0].send(("write", n))

    def look(self, since: float, n: int = -1) -> Seen:
        # to look costs the hosts time
        time.sleep(0.25)
        for pipe in self._pipes:
            pipe.send(("look", (since, n)))
        seen = [pipe.recv() for pipe in self._pipes]
        return Seen(
            sum(each.joined for each in seen),
            max(each.joined_s for each in seen),
            sum(each.has_it for each in seen),
            max(each.heard_s for each in seen),
        )

    def all_joined_s(self, since: float, count: int) -> float:
        """Seconds from `since` until the last of `count` hosts was in step."""
        seen = wait_until(lambda: self._complete(self.look(since), "joined", count), PATIENCE_S, "all to be in step")
        return seen.joined_s - since

    def written_s(self, n: int) -> float:
        """Seconds from a write on one host until the last host has it."""
        began = time.monotonic()
        self.write(n)
        what = f"document {n} everywhere"
        seen = wait_until(lambda: self._complete(self.look(began, n), "has_it", self.hosts), PATIENCE_S, what)
        return seen.heard_s - began

    @staticmethod
    def _complete(seen: Seen, what: str, count: int) -> Seen | None:
        return seen if getattr(seen, what) == count else None

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(60)


def broker_mb(server: RabbitServer) -> float:
    pid = int(server.ctl("eval", "list_to_integer(os:getpid()).").strip())
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def measure(directory: Path, chosen: argparse.Namespace) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []

    def row(what: str, figure: str) -> None:
        rows.append((what, figure))
        print(f"{what}: {figure}", file=sys.stderr, flush=True)

    with RabbitServer(start_timeout_s=300) as server:
        means = Means("ours", directory / "crowd", server.url, generate_key().decode())
        empty_mb = broker_mb(server)
        crowds = Crowds(means, chosen.hosts, chosen.processes)
        if not chosen.cold:
            crowds.start_first()
        began = time.monotonic()
        crowds.start_others(cold=chosen.cold)
        others = chosen.hosts - 1 + chosen.cold
        row("all others start at once: the last one is in step after", f"{crowds.all_joined_s(began, others):.1f} s")
        taken = [crowds.written_s(n) for n in range(chosen.writes)]
        figure = f"{statistics.median(taken):.2f} s ({min(taken):.2f} to {max(taken):.2f}, {len(taken)} writes)"
        row("one write: the last host has it after, median", figure)
        row("connections", str(server.connection_count()))
        row("the broker's memory, of which without any host", f"{broker_mb(server):.0f} MB, {empty_mb:.0f} MB")
        idle_rows(row, server, crowds, means, chosen.idle_s)
        server.kill()
        server.start()
        began = time.monotonic()
        row(
            "the broker is killed and started: all are in step again after",
            f"{crowds.all_joined_s(began, chosen.hosts):.1f} s",
        )
        row("and a write reaches the last host after", f"{crowds.written_s(chosen.writes):.2f} s")
        crowds.close()
    return rows


def idle_rows(row: Any, server: RabbitServer, crowds: Crowds, means: Means, idle_s: float) -> None:
    """What all of them say and cost while nothing happens."""
    if not idle_s:
        return
    pid = int(server.ctl("eval", "list_to_integer(os:getpid()).").strip())
    pids = [process.pid for process in crowds.processes if process.pid is not None]
    overheard = Overheard(server.url, node_settings(means).exchange)
    before, hosts_before = cpu_s(pid), sum(map(cpu_s, pids))
    time.sleep(idle_s)
    row("idle: messages sent, each to every host", f"{overheard.count / idle_s:.2f}/s")
    row("idle: the broker's CPU, of a core", f"{(cpu_s(pid) - before) / idle_s:.0%}")
    row("idle: a host's CPU, of a core", f"{(sum(map(cpu_s, pids)) - hosts_before) / idle_s / crowds.hosts:.3%}")
    overheard.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thousand_hosts", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--writes", type=int, default=5)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--cold", action="store_true", help="nobody is in step when all start")
    chosen = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        rows = measure(Path(directory), chosen)
    print(f"| {chosen.hosts} hosts on one broker | measured |\n| --- | ---: |")
    print("\n".join(f"| {what} | {figure} |" for what, figure in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
