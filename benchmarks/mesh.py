"""The adapter beside the real old package: ``python -m benchmarks.mesh [--old] [NAME ...]``, as root.

Both run the same program (`tests/mesh/peer.py`) on the same LAN, two network namespaces with a RabbitMQ each, in turns.
Needs what ``script/bootstrap --tests`` gets.  ``--old``: the old package only, to see what there is to beat.  Ends with
1 where a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.measure import Line, percentile, table
from miros_cache_net import Cache
from miros_cache_net.mesh.topology import MESH_EXCHANGE
from tests.integration.rabbit_links import channel_to
from tests.mesh.fleet_on_lan import FILE, FleetOnLan
from tests.mesh.old_package import ADAPTER, OLD, PASSWORD, PEER, USER, MeshHost, MeshLan, Program

#: What the contract asks, in its units.
COLD_S, HEALED_S, TRANSMIT_MS = 2.5, 10.0, 5.0
ROUNDS = 3
PACED, EVERY_S = 200, 1 / 20
FLOODS, FLOOD, FLOOD_BYTES = 5, 2_000, 200
STARTS = 7
FLEET_WRITES = 100
#: An old program that has not been heard by then never is.
PATIENCE_S = 15.0
_names = count(1)

Lan = Sequence[MeshHost]


class Found(NamedTuple):
    """One figure of both; None where one of them never got there."""

    what: str
    new: float | None
    old: float | None
    unit: str
    target: str = ""
    note: str = ""

    def line(self) -> Line:
        never = float("inf")
        return Line(
            self.what,
            never if self.new is None else self.new,
            never if self.old is None else self.old,
            self.unit,
            self.target,
            self.note,
        )


@contextlib.contextmanager
def peers(package: str, *wanted: tuple[MeshHost, str]) -> Iterator[list[Program]]:
    """A peer on each host with each name, all of that package; those of the old one hear themselves."""
    started: list[Program] = []
    try:
        for host, name in wanted:
            started.append((host.old_peer if package == OLD else host.new_peer)(name))
        wait_for_all(started)
        yield started
    finally:
        for each in started:
            each.kill()


def wait_for_all(programs: list[Program]) -> None:
    """Until everybody hears everybody."""
    for sender in programs:
        others = [each for each in programs if each is not sender]
        for _ in range(300):
            mark = f"mark {next(_names)}"
            sender.tell("transmit", mark)
            time.sleep(0.1)
            if all(mark in each.heard() for each in others):
                break
        else:
            raise TimeoutError(f"some programs do not hear each other: {[each.lines[-8:] for each in programs]}")


def both(measure: Callable[[str], Any], contenders: Sequence[str], rounds: int = ROUNDS) -> dict[str, list[Any]]:
    """What `measure` gives for each, in turns."""
    took: dict[str, list[Any]] = {ADAPTER: [], OLD: []}
    for number in range(rounds):
        for package in contenders if number % 2 else reversed(contenders):
            took[package].append(measure(package))
    return took


# --- from transmit to handler ---------------------------------------------------------------------------


def delays(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """Three senders at 20 events/s, two on one host and one on the other; what crosses from host to host counts."""
    here, there = lan[:2]

    def measure(package: str) -> list[float]:
        with peers(package, (here, "one"), (here, "two"), (there, "three")) as programs:
            for each in programs:
                each.tell("pace", PACED, EVERY_S)
            for each in programs:
                each.fact("paced")
            one, two, three = programs
            crossing = [(three, ("one", "two")), (one, ("three",)), (two, ("three",))]
            time.sleep(1.0)
            return [ms for program, senders in crossing for ms in delays_ms(program, senders)]

    took = both(measure, contenders)
    found = []
    for name, share, target in (("p50", 0.5, "<= 0.1"), ("p99", 0.99, "<= 0.1")):
        new, old = (median(percentile(each, share) for each in took[p]) if took[p] else None for p in (ADAPTER, OLD))
        found.append(Found(f"transmit to handler, {name}", new, old, "ms", target, "3 senders at 20/s on 2 hosts"))
    for package, rounds in took.items():
        print(f"  {package}: {[len(each) for each in rounds]} of {PACED * 4} events came", file=sys.stderr)
    return found


def delays_ms(program: Program, senders: Sequence[str]) -> list[float]:
    """Of all paced events of these senders that it has heard."""
    return [
        (fact["at"] - fact["heard"][2]) * 1000
        for fact in program.facts("heard")
        if isinstance(fact["heard"], list) and fact["heard"][0] in senders
    ]


# --- sustained -------------------------------------------------------------------------------------------


def sustained(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """From the first `transmit` of a flood to the last event in the handler on the other host."""
    here, there = lan[:2]

    def measure(package: str) -> list[float]:
        with peers(package, (here, "sender"), (there, "receiver")) as (sender, receiver):
            rates: list[float] = []
            for number in range(1, FLOODS + 1):
                sender.tell("flood", FLOOD, FLOOD_BYTES)
                told, began = receiver.fact("counted", number), sender.fact("flooded", number)["began"]
                if told["counted"] != FLOOD:
                    print(f"  {package}: {told['counted']} of {FLOOD} came", file=sys.stderr)
                rates.append(told["counted"] / (told["last"] - began))
            print(f"  {package}: {' '.join(f'{each:.0f}' for each in rates)} /s", file=sys.stderr)
            return rates

    took = both(measure, contenders)
    new, old = (middle([rate for rates in took[package] for rate in rates]) for package in (ADAPTER, OLD))
    return [Found("sustained events of 200 B", new, old, "/s", ">= 5", f"{FLOOD} at once, median of {ROUNDS * FLOODS}")]


# --- starts ------------------------------------------------------------------------------------------------


def first_event_s(host: MeshHost, package: str, receiver: Program) -> float | None:
    """From a process's start to its first event on the other host; None: it never comes."""
    name = f"starter-{next(_names)}"
    began = time.monotonic()
    python = host.python_of(package)
    program = host.start(python, PEER, package, name, "mesh", "mesh")
    program.tell("announce", 0.005)
    try:
        while time.monotonic() < began + PATIENCE_S:
            for fact in receiver.facts("heard"):
                if isinstance(fact["heard"], list) and fact["heard"][0] == name:
                    return float(fact["at"] - began)
            time.sleep(0.01)
        return None
    finally:
        program.kill()


def warm_starts(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    here, there = lan[:2]
    with contextlib.ExitStack() as stack:
        receivers = {each: stack.enter_context(peers(each, (there, "receiver")))[0] for each in contenders}
        took = both(lambda package: first_event_s(here, package, receivers[package]), contenders, STARTS)
    for package, each in took.items():
        print(f"  {package}: {each.count(None)} of {len(each)} starts never got there", file=sys.stderr)
    new, old = (middle([each for each in took[package] if each is not None]) for package in (ADAPTER, OLD))
    return [Found("warm start to the first event on another host", new, old, "s", "<= 0.5", f"median of {STARTS}")]


def cold_starts(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """Nobody has a LAN file, on neither host."""
    here, there = lan[:2]

    def measure(package: str) -> float | None:
        for host in (here, there):
            host.clear()
        if package == OLD:
            # the receiver may be warm: what is asked is when the cold one is heard
            there.remember([here.address, there.address])
        with peers(package, (there, "receiver")) as (receiver,):
            return first_event_s(here, package, receiver)

    took = both(measure, contenders)
    warm(lan)
    new, old = (middle([each for each in took[package] if each is not None]) for package in (ADAPTER, OLD))
    note = "the old one never, in " + str(took[OLD].count(None)) + f" of {len(took[OLD])}" if took[OLD] else ""
    return [
        Found("cold start to the first event on another host", new, COLD_S, "s", "<= 1", "against what is asked"),
        Found("the same, against the old one", new, old, "s", "", note),
    ]


# --- faults ----------------------------------------------------------------------------------------------


def broker_restarts(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """From the moment when the other host's RabbitMQ answers again to the next event in its program's handler."""
    here, there = lan[:2]
    assert there.broker is not None
    broker = there.broker

    def measure(package: str) -> float | None:
        warm(lan)  # a broker that is down leaves the LAN file, and returns only while a program is there
        with peers(package, (here, "sender"), (there, "receiver")) as (sender, receiver):
            sender.tell("announce", 0.05)
            broker.stop()
            gone_s = time.monotonic()
            broker.start()
            back_s = time.monotonic()
            while time.monotonic() < back_s + 2 * PATIENCE_S:
                later = [fact["at"] for fact in receiver.facts("heard") if fact["at"] > gone_s]
                if later:
                    return max(0.0, float(later[0] - back_s))
                time.sleep(0.05)
            return None

    took = both(measure, contenders, 2)
    healed = [each for each in took[ADAPTER] if each is not None]
    new = max(healed) if healed and len(healed) == len(took[ADAPTER]) else None
    old = middle([each for each in took[OLD] if each is not None])
    note = f"the old one not, in {took[OLD].count(None)} of {len(took[OLD])}" if took[OLD] else ""
    return [
        Found("a broker's restart healed", new, HEALED_S, "s", "<= 1", "against what is asked; the worst of 2"),
        Found("the same, against the old one", new, old, "s", "", note),
    ]


def dead_peers(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """How long `transmit` itself takes where 10 of 30 hosts are dead; the old one's 501st blocks for good."""
    here, there = lan[:2]
    subnet = here.address.rpartition(".")[0]
    alive = [here.address, there.address, *(f"{subnet}.{number}" for number in range(100, 118))]
    dead = [f"{subnet}.{number}" for number in range(201, 211)]
    here.remember([*alive, *dead])

    def measure(package: str) -> list[float]:
        with peers(package, (here, "sender")) as (sender,):
            sender.tell("pace", 450 if package == OLD else 1_500, 0.01)
            return [each * 1000 for each in sender.fact("paced", timeout_s=120)["paced"]]

    took = both(measure, contenders, 1)
    warm(lan)
    new, old = (percentile(took[package][0], 0.99) if took[package] else None for package in (ADAPTER, OLD))
    what = "p99 of transmit itself, 10 of 30 peers dead"
    return [
        Found(what, new, TRANSMIT_MS, "ms", "<= 1", "against what is asked"),
        Found("the same, against the old one", new, old, "ms", "", "its first 450; its 501st never returns"),
    ]


# --- connections -------------------------------------------------------------------------------------------


def connections(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """Those that one program has, with all three networks on, where each of H hosts has a RabbitMQ: H + 1."""
    here, there = lan[:2]
    subnet = here.address.rpartition(".")[0]
    hosts = [here.address, there.address, *(f"{subnet}.{number}" for number in range(100, 108))]
    found = []
    for number in (1, 3, 10):
        here.remember(hosts[:number])
        counted: dict[str, float | None] = {ADAPTER: None, OLD: None}
        for package in contenders:
            peer = here.old_peer if package == OLD else here.new_peer
            program = peer("counted", "mesh", "mesh", "trace", "spy")
            counted[package] = settled(here)
            program.kill()
        formula = number + 1
        new, old = counted[ADAPTER], counted[OLD]
        found.append(Found(f"connections of one program, {number} hosts", new, formula, "", "<= 1", "against H + 1"))
        found.append(Found("the same, against the old one", new, old, "", "", "3 H + 3"))
    warm(lan)
    return found


def settled(host: MeshHost) -> float:
    """How many connections to port 5672 leave from there, once that has not changed for two seconds."""
    seen, since = -1, time.monotonic()
    while time.monotonic() < since + 2.0:
        lines = host.network.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"]).stdout.splitlines()
        fields = [line.split() for line in lines]
        number = sum(len(each) > 3 and each[2].endswith(":1628") and each[3] == "01" for each in fields)
        if number != seen:
            seen, since = number, time.monotonic()
        time.sleep(0.1)
    return float(seen)


# --- a fleet beside old programs ---------------------------------------------------------------------------


def fleet(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """An old program's write until the other host's file has it, and a write there until the old handler has it.

    The reference is an event from one old program's `transmit` to another's handler.
    """
    here, there = lan[:2]
    hosts = FleetOnLan((here, there))
    speaker = hosts.speaker()
    with peers(OLD, (here, "old"), (there, "other")) as (old, other):
        old.tell("pace", FLEET_WRITES, EVERY_S)
        old.fact("paced")
        time.sleep(1.0)
        among_old = delays_ms(other, ["old"])
        heard = [old_write_ms(hosts, old, number) for number in range(FLEET_WRITES)]
        told = [our_write_ms(there, hosts, old, number) for number in range(FLEET_WRITES)]
    print(f"  {speaker} speaks", file=sys.stderr)
    return [
        Found(f"{what}, {name}", percentile(took, share), percentile(among_old, share), "ms", "", "against old to old")
        for what, took in (("old write to another host's file", heard), ("our write to an old handler", told))
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


def old_write_ms(hosts: FleetOnLan, old: Program, number: int) -> float:
    contents = {"old": number}
    old.tell("send", "CACHE_FILE_WRITE", contents)
    while hosts.contents("beta") != contents:
        time.sleep(0.0005)
    return (time.monotonic() - old.facts("sent")[-1]["at"]) * 1000


def our_write_ms(host: MeshHost, hosts: FleetOnLan, old: Program, number: int) -> float:
    contents = {"ours": number}
    began = time.monotonic()
    Cache(host.directory / FILE).write(contents)
    while not (found := [fact["at"] for fact in old.facts("cache") if fact["cache"] == contents]):
        time.sleep(0.0005)
    return float(found[0] - began) * 1000


# --- an old program beside our LAN file ---------------------------------------------------------------------


def lan_file(lan: Lan, contenders: Sequence[str]) -> list[Found]:
    """From an old program's start to its first event at its own broker: beside the file that we write, and without."""
    here, there = lan[:2]
    took: dict[bool, list[float]] = {True: [], False: []}
    with peers(OLD, (there, "neighbour")):
        for number in range(2 * STARTS):
            has_file = bool(number % 2)
            here.clear()
            if has_file:
                done = here.command("discover", "--legacy")
                assert done.returncode == 0, done.stderr
            took_s = first_sent_s(here)
            if took_s is not None:
                took[has_file].append(took_s)
    print(f"  with {took[True]}, without {took[False]}", file=sys.stderr)
    what, note = "an old program's start to its first event", f"against its own discovery, median of {STARTS}"
    return [Found(f"{what}, beside our LAN file", middle(took[True]), middle(took[False]), "s", "", note)]


def first_sent_s(host: MeshHost) -> float | None:
    """From a process's start to its first event, None if none comes; unencrypted probes do not count."""
    with channel_to(f"amqp://{USER}:{PASSWORD}@{host.address}") as channel:
        channel.exchange_declare(MESH_EXCHANGE, "topic")
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, MESH_EXCHANGE, "#")
        began = time.monotonic()
        program = host.start(host.python_of(OLD), PEER, OLD, f"starter-{next(_names)}", "mesh", "mesh")
        program.tell("announce", 0.005)
        try:
            while time.monotonic() < began + PATIENCE_S:
                if (channel.basic_get(queue, auto_ack=True)[2] or b"").startswith(b"gAAAA"):
                    return time.monotonic() - began
                time.sleep(0.002)
            return None
        finally:
            program.kill()


# --- all of it -----------------------------------------------------------------------------------------------

BENCHMARKS = {
    "delays": delays,
    "sustained": sustained,
    "warm": warm_starts,
    "cold": cold_starts,
    "restart": broker_restarts,
    "dead": dead_peers,
    "connections": connections,
    "fleet": fleet,
    "lan_file": lan_file,
}


def middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def warm(lan: Lan) -> None:
    for host in lan:
        host.remember(each.address for each in lan)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mesh", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--old", action="store_true", help="the old package only")
    chosen = parser.parse_args()
    contenders = (OLD,) if chosen.old else (ADAPTER, OLD)
    found: list[Found] = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory, MeshLan(2, Path(directory), aliases=18) as lan:
        for name in chosen.names or BENCHMARKS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            for host in lan:
                host.clear()
            warm(lan)
            found += BENCHMARKS[name](lan, contenders)
    print(f"\n{os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after\n")
    lines = [each.line() for each in found]
    print(table(lines))
    return 1 if not chosen.old and any(line.verdict == "NO" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
