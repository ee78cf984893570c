"""A cold discovery on a /24 and a /22, beside nmap: ``python -m benchmarks.sweep [ROUNDS]``, as root.

Two network namespaces on a bridge.  One plays the LAN: 8 brokers, three of which miss the first SYN, 12 addresses that
refuse, two that drop everything; nobody is at the others.  The contenders run in the other one, in turns, each
with an empty neighbour table.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from miros_cache_net.testing import Network, NetworkHost
from tests.lan_peers import LanPeers

ROOT = Path(__file__).parents[1]
PORT = 5672
#: Measured with miros-rabbitmq 0.2.0 made to run: 2.0 s ping, 2.0 s wait, 0.6 s scouts.
ORIGINAL_S = 4.6


class Run(NamedTuple):
    """One discovery: when it ended, how many brokers it found, and what else is known of it."""

    ended_s: float
    found: int
    last_found_s: float = float("nan")
    cpu_s: float = float("nan")
    sockets: int = 0


def lan(host: NetworkHost, network: ipaddress.IPv4Network) -> tuple[dict[str, list[str]], list[str]]:
    """Who is where on `network`, spread over all of it; and the addresses that a sweep has to find."""
    addresses = [str(address) for address in network.hosts()]
    places = addresses[7 :: len(addresses) // 23][:22]
    plan = {"open": places[:5], "late": places[5:8], "refusing": places[8:20], "silent": places[20:22]}
    return plan, sorted(plan["open"] + plan["late"])


# --- the contenders -----------------------------------------------------------------------------------


def ours(here: NetworkHost, network: ipaddress.IPv4Network) -> Run:
    """The sweep in a running program: what `LanRecceChart` does before its scouts."""
    said = json.loads(_run(here, [sys.executable, "-m", "benchmarks.sweep", "--inside"]))
    return Run(said["ended_s"], said["found"], said["last_found_s"], said["cpu_s"], said["sockets"])


def discover(here: NetworkHost, network: ipaddress.IPv4Network) -> Run:
    """The command, from the start of Python to its end: sweep, scouts, and the cache file written."""
    began = time.monotonic()
    said = json.loads(_run(here, [sys.executable, "-m", "miros_cache_net", "discover", "--force", "--json"]))
    return Run(time.monotonic() - began, len(said["hosts"]))


def nmap(*options: str) -> Callable[[NetworkHost, ipaddress.IPv4Network], Run]:
    def run(here: NetworkHost, network: ipaddress.IPv4Network) -> Run:
        began = time.monotonic()
        said = _run(here, ["nmap", "-n", f"-p{PORT}", *options, str(network)])
        return Run(time.monotonic() - began, len(re.findall(rf"^{PORT}/tcp open", said, re.M)))

    return run


CONTENDERS = {
    "sweep, in a running program": ours,
    "`miros-cache-net discover`, Python's start included": discover,
    "`nmap -p5672`": nmap(),
    "`nmap -p5672 -T4`": nmap("-T4"),
    "`nmap -p5672 -T5`": nmap("-T5"),
}


def _run(here: NetworkHost, command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MIROS_CACHE_TRUSTED_NETWORKS": "auto"}
    with tempfile.TemporaryDirectory() as directory:
        environment["MIROS_CACHE_FILE"] = f"{directory}/lan.json"
        finished = here.run(command, env=environment, cwd=ROOT, check=False)
    if finished.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {finished.stderr or finished.stdout}")
    return finished.stdout


def inside() -> None:
    """One sweep, measured from within; run in the namespace."""
    from miros_cache_net.discovery.sweep.survey import Survey, Surveyed

    over, found_at = threading.Event(), [0.0]
    results: list[Surveyed] = []
    most = 0

    def progress(_done: int, _total: int, _found: int) -> None:
        pass

    def done(surveyed: Surveyed) -> None:
        results.append(surveyed)
        over.set()

    survey = Survey([PORT], 22, progress, done)
    take = survey._take

    def noted(result: object) -> None:
        if getattr(result, "round_trip_s", None) is not None and getattr(result, "answer", "") == "open":
            found_at[0] = time.monotonic()
        take(result)  # type: ignore[arg-type]

    survey._take = noted  # type: ignore[assignment, method-assign]
    before = len(os.listdir("/proc/self/fd"))
    began, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    survey.start()
    while not over.wait(0.01):
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    ended, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "ended_s": ended - began,
                "last_found_s": found_at[0] - began,
                "found": len(results[0].open),
                "cpu_s": used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime,
                "sockets": most,
            }
        )
    )


# --- the rounds ---------------------------------------------------------------------------------------


def measure(network: ipaddress.IPv4Network, names: list[str], rounds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in names}
    with Network(2) as (here, there):
        first, *_, last = network.hosts()
        for host, address in ((here, first), (there, last)):
            host.run(["ip", "address", "flush", "dev", "eth0"])
            host.run(["ip", "address", "add", f"{address}/{network.prefixlen}", "dev", "eth0"])
        plan, expected = lan(there, network)
        for number in range(rounds):
            for name in names:
                print(f"{network} {name}, round {number + 1}", file=sys.stderr, flush=True)
                here.run(["ip", "neighbour", "flush", "all"])
                there.run(["ip", "neighbour", "flush", "all"])
                with LanPeers(there, port=PORT, prefix=network.prefixlen, **plan):
                    runs[name].append(CONTENDERS[name](here, network))
                if number == 0 and runs[name][0].found != len(expected):
                    print(f"  found {runs[name][0].found} of {len(expected)}", file=sys.stderr)
    return runs


def table(runs: dict[str, list[Run]]) -> str:
    base = statistics.median(run.ended_s for run in next(iter(runs.values())))
    lines = [
        "| | ends after | times the sweep | last broker found after | found | CPU | sockets |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in runs.items():
        ended = statistics.median(run.ended_s for run in each)
        found = "/".join(sorted({str(run.found) for run in each}))
        known = each[0].sockets > 0
        last = f"{statistics.median(run.last_found_s for run in each):.2f} s" if known else ""
        cpu = f"{statistics.median(run.cpu_s for run in each) * 1000:.0f} ms" if known else ""
        sockets = str(max(run.sockets for run in each)) if known else ""
        lines.append(f"| {name} | {ended:.2f} s | {ended / base:.2f} | {last} | {found} of 8 | {cpu} | {sockets} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="how often each takes its turn; 5")
    rounds = parser.parse_args().rounds
    if shutil.which("nmap") is None:
        raise SystemExit("nmap is not installed: apt-get install nmap")
    version = subprocess.run(["nmap", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    small = measure(ipaddress.IPv4Network("10.9.0.0/24"), list(CONTENDERS), rounds)
    large = measure(
        ipaddress.IPv4Network("10.9.0.0/22"), [next(iter(CONTENDERS)), "`nmap -p5672`"], max(1, rounds // 2)
    )
    print(f"nmap {version}, {rounds} rounds in turns, medians\n\n/24:\n\n{table(small)}\n\n/22:\n\n{table(large)}")
    print(f"\nThe original's cold discovery took {ORIGINAL_S} s at the least.")


if __name__ == "__main__":
    inside() if sys.argv[1:] == ["--inside"] else main()
