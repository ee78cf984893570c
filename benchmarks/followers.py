"""How soon a thousand processes of one host hear of a change, what one costs, and how soon a killed bridge is replaced.

    python benchmarks/followers.py --followers 1000 --writes 30
    python benchmarks/followers.py --followers 9 --writes 30 --kills 20

No broker is needed: the bridge's link leads nowhere.  The processes are forked from one that has imported
everything, so that memory is what a process has for itself.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import miros_cache_net.fleet.bridge
import miros_cache_net.wire.keyring  # noqa: F401 - imported before the fork, whoever is the bridge
from miros_cache_net import Cache, CacheNode, Settings, limits
from miros_cache_net.amqp.link import LinkUp
from miros_cache_net.events import CACHE
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.messages import Frames, Hello, encode
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.statechart.listener import Listener

#: Process, the document's number, and when it heard of it.
NEWS = struct.Struct("iid")


class LinkToNowhere:
    def start(self, listener: Any) -> None:
        threading.Thread(target=listener.link_up, args=(LinkUp("amq.gen-x", 0, "nowhere"),), daemon=True).start()

    def publish(self, publication: Any) -> None:
        if publication.done is not None:
            publication.done(True)

    def serve_requests(self, serve: bool) -> None: ...

    def stop(self) -> None: ...


def listener(number: int, pipe: int) -> Listener:
    """Tells the parent of each change."""

    def heard(payload: CacheReadPayload) -> None:
        os.write(pipe, NEWS.pack(number, payload.dict.get("n", 0), time.monotonic()))

    return Listener({CACHE: heard})


def child(number: int, pipe: int, settings: Settings) -> None:
    os.setpgid(0, 0)
    # nobody reads what a thousand processes have to say
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    listener(number, pipe)
    CacheNode(settings=settings, link_factory=lambda _settings, _place: LinkToNowhere())
    os.write(pipe, NEWS.pack(number, 0, time.monotonic()))
    signal.pause()


class Crowd:
    """The processes, and what they have told."""

    def __init__(self, count: int, directory: Path) -> None:
        self.settings = Settings(file=str(directory / "cache.json"), keys=generate_key().decode(), node_name="host")
        self._reader, self._writer = os.pipe()
        self.pids: dict[int, int] = {}
        self.heard: dict[int, dict[int, float]] = {}
        self._rest = b""
        for number in range(count):
            self.add(number)

    def add(self, number: int) -> None:
        """One more process; returns when it runs."""
        pid = os.fork()
        if pid == 0:
            try:
                child(number, self._writer, self.settings)
            finally:
                os._exit(1)
        self.pids[number] = pid
        self.wait_for(0, [number], timeout_s=60)

    def wait_for(self, n: int, numbers: Iterable[int], timeout_s: float = 120) -> list[float]:
        """When each of them heard of document `n` or a later one."""
        deadline_s = time.monotonic() + timeout_s
        missing = set(numbers)
        while missing := {each for each in missing if self._first(each, n) is None}:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{len(missing)} processes have not heard of document {n}")
            data = self._rest + os.read(self._reader, 65536)
            whole = len(data) - len(data) % NEWS.size
            for number, heard, at_s in NEWS.iter_unpack(data[:whole]):
                self.heard.setdefault(number, {}).setdefault(heard, at_s)
            self._rest = data[whole:]
        return [first for each in numbers if (first := self._first(each, n)) is not None]

    def _first(self, number: int, n: int) -> float | None:
        return min((at_s for heard, at_s in self.heard.get(number, {}).items() if heard >= n), default=None)

    def bridge(self) -> int:
        """Who holds the bridge lock: the kernel's list of locks knows."""
        directory = Path(self.settings.file).parent
        (lock,) = directory.glob(".*bridge-*.lock")
        inode = str(lock.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                return next(number for number, pid in self.pids.items() if pid == int(fields[4]))
        raise SystemExit("no process holds the bridge lock")

    def kill(self, number: int) -> None:
        pid = self.pids.pop(number)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def end(self) -> None:
        for number in list(self.pids):
            self.kill(number)


def private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def inotify_instances(pids: Iterable[int]) -> int:
    links = [os.readlink(fd) for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return links.count("anon_inode:inotify")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, most {ordered[-1] * 1000:.1f} ms"


def writes(crowd: Crowd, cache: Cache, count: int, pace_s: float) -> None:
    from_call, from_return, to_last = [], [], []
    for n in range(1, count + 1):
        called_s = time.monotonic()
        cache.write({"n": n, "filler": "x" * 2000})
        returned_s = time.monotonic()
        heard = crowd.wait_for(n, list(crowd.pids))
        from_call += [at_s - called_s for at_s in heard]
        from_return += [at_s - returned_s for at_s in heard]
        to_last.append(max(heard) - called_s)
        time.sleep(pace_s)
    print(f"write -> CACHE, from the call of write():   {spread(from_call)}")
    print(f"write -> CACHE, from its return (durable):  {spread(from_return)}")
    print(f"write -> CACHE in the last of {len(crowd.pids)}:         {spread(to_last)}")


def costs(crowd: Crowd) -> None:
    bridge = crowd.bridge()
    followers = [pid for number, pid in crowd.pids.items() if number != bridge]
    memory = [private_kb(pid) for pid in followers[:50]]
    idle_s, before = 10.0, {pid: cpu_s(pid) for pid in crowd.pids.values()}
    time.sleep(idle_s)
    used = {pid: cpu_s(pid) - before[pid] for pid in crowd.pids.values()}
    bridge_pid = crowd.pids[bridge]
    follower_mb, bridge_mb = statistics.median(memory) / 1024, private_kb(bridge_pid) / 1024
    print(f"private memory: {follower_mb:.1f} MB a follower, bridge {bridge_mb:.1f} MB")
    print(
        f"idle CPU, of a core: bridge {used[bridge_pid] / idle_s:.2%}, all together {sum(used.values()) / idle_s:.2%}"
    )
    threads = len(list(Path(f"/proc/{bridge_pid}/task").iterdir()))
    print(f"threads: bridge {threads}, a follower {len(list(Path(f'/proc/{followers[0]}/task').iterdir()))}")
    print(f"inotify instances of all {len(crowd.pids)} processes: {inotify_instances(crowd.pids.values())}")


def time_to_answer(crowd: Crowd, since_s: float) -> float:
    """Until somebody can follow the next bridge and is told how things stand."""
    lock = next(Path(crowd.settings.file).parent.glob(".*bridge-*.lock"))
    address, frames = SocketAddress(lock), Frames(limits.HOST_ANSWER_BYTES)
    while True:
        try:
            with address.connect() as connection:
                connection.settimeout(5)
                connection.sendall(encode(Hello()))
                while data := connection.recv(65536):
                    if frames.feed(data):
                        return time.monotonic() - since_s
        except OSError:
            time.sleep(0.0005)


def takeovers(crowd: Crowd, cache: Cache, count: int, first_n: int) -> None:
    """Kill -9 the bridge; somebody else answers, and what is written then reaches everybody."""
    answers, reached = [], []
    for n in range(first_n, first_n + count):
        bridge = crowd.bridge()
        killed_s = time.monotonic()
        crowd.kill(bridge)
        answers.append(time_to_answer(crowd, killed_s))
        cache.write({"n": n})
        reached.append(max(crowd.wait_for(n, list(crowd.pids))) - killed_s)
        number = max(crowd.pids) + 1
        crowd.add(number)
    print(f"kill -9 -> the next bridge answers:          {spread(answers)}")
    print(f"kill -9 -> a write after it is in all:       {spread(reached)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--followers", type=int, default=1000)
    parser.add_argument("--writes", type=int, default=30)
    parser.add_argument("--pace-s", type=float, default=0.5)
    parser.add_argument("--kills", type=int, default=0)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        began_s = time.monotonic()
        crowd = Crowd(arguments.followers + 1, directory)
        try:
            print(f"{arguments.followers} followers and a bridge, started in {time.monotonic() - began_s:.1f} s")
            with Cache(crowd.settings.file) as cache:
                writes(crowd, cache, arguments.writes, arguments.pace_s)
                if arguments.kills:
                    takeovers(crowd, cache, arguments.kills, arguments.writes + 1)
                else:
                    costs(crowd)
        finally:
            crowd.end()


if __name__ == "__main__":
    sys.exit(main())
