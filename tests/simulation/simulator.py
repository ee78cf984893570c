"""A fleet in one thread: virtual clocks, network and disks around the real `Replica`; everything from one seed."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from miros_cache_net.document import Document, Entry, Stamp, next_stamp
from miros_cache_net.errors import Reason
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.wire.envelope import CACHE, Message, Origin

START_MS = 1_700_000_000_000
KEYS = ("a", "b", "c", "d")
#: In the default of every host; the first update of a document that nobody wrote keeps it.
DEFAULT_VALUE = "default"


@dataclass(frozen=True)
class Faults:
    """What may go wrong, as probabilities and bounds."""

    loss: float = 0.1
    duplication: float = 0.1
    delay_s: float = 0.5
    skew_ms: int = 20_000
    confirm_loss: float = 0.05
    merge_loss: float = 0.05
    wrong_clock_ms: int = 0


@dataclass(frozen=True)
class Acknowledged:
    """A write that its host said yes to: stamp and keys (None: deleted); `whole`: all other keys are gone."""

    stamp: Stamp
    entries: dict[str, Any]
    whole: bool


class World:
    """Time, network and hosts; `run` plays a schedule of faults and writes, `heal` ends all faults."""

    def __init__(self, seed: int, hosts: int, faults: Faults = Faults()) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.faults = faults
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = itertools.count()
        self.acknowledged: list[Acknowledged] = []
        self.messages = 0
        self.hosts = [Host(self, f"host-{number}") for number in range(hosts)]

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._tickets), action))

    def run_for(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._due)
            action()
        self.now_s = end_s

    def play(self, steps: int) -> None:
        """Random writes, cuts, crashes and clock steps, each followed by a random while."""
        for host in self.hosts:
            host.start()
        for _ in range(steps):
            self.random.choice(self.hosts).misfortune_or_write()
            self.run_for(self.random.choice((0.0, 0.01, 0.3, 5.0)))

    def heal(self) -> None:
        """No more faults; everybody is linked; enough time for the digests."""
        self.faults = Faults(
            loss=0, duplication=0, delay_s=0.01, skew_ms=self.faults.skew_ms, confirm_loss=0, merge_loss=0
        )
        for host in self.hosts:
            host.set_clock()
            host.start()
            host.link(True)
        self.run_for(120.0)

    def carry(self, message: Message, sender: Host, to: str) -> None:
        """The broker: everybody, one that serves, or one queue."""
        self.messages += 1
        linked = [host for host in self.hosts if host is not sender and host.linked]
        if to == EVERYBODY:
            receivers = linked
        elif to == ANY_PEER:
            serving = [host for host in linked if host.serving]
            receivers = [self.random.choice(serving)] if serving else []
        else:
            receivers = [host for host in linked if host.queue == to]
        for host in receivers:
            copies = 0 if self.happens(self.faults.loss) else 2 if self.happens(self.faults.duplication) else 1
            for _ in range(copies):
                self.after(self.random.uniform(0, self.faults.delay_s), host.receiver(message, sender.queue))

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability


@dataclass
class Host:
    """One host: a disk, a clock, and a replica that a crash takes away.  It is the replica's port."""

    world: World
    name: str
    disk: Document = field(default_factory=lambda: Document.unwritten({"default": DEFAULT_VALUE}))
    history: list[Document] = field(default_factory=list)
    linked: bool = False
    serving: bool = False
    boot: int = 0
    replica: Replica | None = None
    reports: list[Reason] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.set_clock()
        self._latest_timer: dict[str, int] = {}

    # --- Clock ------------------------------------------------------------------------------------

    def wall_ms(self) -> int:
        return START_MS + int(self.world.now_s * 1000) + self.skew_ms

    def monotonic_s(self) -> float:
        return self.world.now_s

    # --- life ---------------------------------------------------------------------------------------

    @property
    def queue(self) -> str:
        return f"{self.name}/{self.boot}"

    def start(self) -> None:
        if self.replica is None:
            self.boot += 1
            rng = random.Random(self.world.random.random())
            self.replica = Replica(self, self.disk, self, answer_timeout_s=1.0, digest_interval_s=30.0, rng=rng)
            self.link(True)

    def crash(self) -> None:
        """kill -9: what was not on the disk is gone."""
        self.replica, self.linked, self.serving = None, False, False

    def link(self, up: bool) -> None:
        if self.replica is None or up == self.linked:
            return
        self.linked = up
        if up:
            self.replica.link_up(sum(host.serving for host in self.world.hosts if host is not self))
        else:
            self.serving = False
            self.replica.link_down()

    def set_clock(self) -> None:
        """As NTP keeps it: right but for a bounded error."""
        self.skew_ms = self.world.random.randint(-self.world.faults.skew_ms, self.world.faults.skew_ms)

    def misfortune_or_write(self) -> None:
        choice = self.world.random.random()
        if choice < 0.1:
            self.crash() if self.replica else self.start()
        elif choice < 0.25:
            self.link(not self.linked)
        elif choice < 0.3:
            self.set_clock()
        elif choice < 0.35:
            wrong_ms = self.world.faults.wrong_clock_ms
            self.skew_ms += self.world.random.choice((-wrong_ms, wrong_ms))
        else:
            self.write()

    # --- the file -------------------------------------------------------------------------------------

    def write(self) -> None:
        """What any program of the host does to the file: it is on the disk when it is acknowledged."""
        rng, now_ms = self.world.random, self.wall_ms()
        stamp = next_stamp(max(self.disk.last_stamp, self.disk.floor.stamp), now_ms, self.name)
        kind = rng.choice(("write", "update", "update", "delete", "destroy"))
        value = f"{self.name} {stamp}"
        if kind == "write":
            self.write_whole(dict.fromkeys(rng.sample(KEYS, rng.randint(0, 3)), value))
        elif kind == "destroy":
            self._stored(self.disk.destroyed(stamp))
            self.world.acknowledged.append(Acknowledged(stamp, {}, True))
        else:
            key = rng.choice(KEYS)
            changes, gone = ({key: value}, []) if kind == "update" else ({}, [key])
            self._stored(self.disk.updated(changes, gone, stamp, now_ms))
            self.world.acknowledged.append(Acknowledged(stamp, {key: changes.get(key)}, False))

    def write_whole(self, contents: dict[str, Any]) -> None:
        stamp = next_stamp(max(self.disk.last_stamp, self.disk.floor.stamp), self.wall_ms(), self.name)
        self._stored(self.disk.written(contents, stamp, self.wall_ms()))
        self.world.acknowledged.append(Acknowledged(stamp, contents, True))

    def _stored(self, document: Document) -> None:
        if document is self.disk:
            return
        self.disk = document
        self.history.append(document)
        self.world.after(self.world.random.uniform(0, 0.05), self._notice)

    def _notice(self) -> None:
        if self.replica is not None:
            self.replica.local_changed(self.disk)

    # --- ReplicaPort ------------------------------------------------------------------------------------

    def send(self, kind: str, body: Any, to: str) -> None:
        boot = self.boot
        copied = json.loads(json.dumps(body))
        message = Message(kind, "fleet", "c", "id", Origin(self.name, self.name, str(boot), 0), self.wall_ms(), copied)
        lost = not self.linked or self.world.happens(self.world.faults.confirm_loss)
        if not lost:
            self.world.carry(message, self, to)
        if kind == CACHE:
            self.world.after(self.world.random.uniform(0, 0.1), lambda: self._confirm(boot, not lost))

    def _confirm(self, boot: int, confirmed: bool) -> None:
        if self.replica is not None and self.boot == boot:
            self.replica.sent(confirmed)

    def merge(self, document: Document) -> None:
        # no space, a lock that is held for long, a queue that gives it up
        failed = self.world.happens(self.world.faults.merge_loss)

        def merge_now() -> None:
            if self.replica is not None and not failed:
                self._stored(self.disk.merged(document))

        self.world.after(self.world.random.uniform(0, 0.05), merge_now)

    def serve(self, serving: bool) -> None:
        self.serving = serving and self.linked

    def after(self, name: str, delay_s: float) -> None:
        boot, ticket = self.boot, self._latest_timer.get(name, 0) + 1
        self._latest_timer[name] = ticket

        def due() -> None:
            if self.replica is not None and self.boot == boot and self._latest_timer[name] == ticket:
                self.replica.timer(name)

        self.world.after(delay_s, due)

    def report(self, reason: Reason, message: str) -> None:
        self.reports.append(reason)

    def receiver(self, message: Message, reply_to: str) -> Callable[[], None]:
        boot = self.boot

        def deliver() -> None:
            if self.replica is not None and self.linked and self.boot == boot:
                self.replica.received(message, reply_to)

        return deliver


def visible(document: Document) -> dict[str, Entry]:
    """The entries that users see."""
    return {key: entry for key, entry in document.entries.items() if not entry.deleted}
