"""A fleet in one thread: virtual clocks, network and disks around the real `Replica`; everything from one seed."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from miros_cache_net.document.value import ZERO, Document, Stamp, next_stamp
from miros_cache_net.errors import PayloadError, Reason
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.observe.registry import Counter
from miros_cache_net.wire.envelope import Message, Origin
from miros_cache_net.wire.kinds import CACHE

START_MS = 1_700_000_000_000
#: No clock counts beyond the year 2190.
LATEST_MS = 6_942_758_400_000
KEYS = ("a", "b", "c", "d")
#: In the default of every host; the first update of a document that nobody wrote keeps it.
DEFAULT_VALUE = "default"
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
JUMPS_MS = (HOUR_MS, 26 * HOUR_MS, YEAR_MS, 40 * YEAR_MS, 500 * YEAR_MS)
_CAPTURED = 200


@dataclass(frozen=True)
class Faults:
    """What may go wrong, as probabilities and bounds."""

    loss: float = 0.1
    duplication: float = 0.1
    delay_s: float = 0.5
    skew_ms: int = 20_000
    confirm_loss: float = 0.05
    merge_loss: float = 0.05
    replays: float = 0.3
    wrong_clocks: bool = False
    deletions: bool = True


NO_FAULTS = Faults(loss=0, duplication=0, delay_s=0.01, confirm_loss=0, merge_loss=0, replays=0)


@dataclass(frozen=True)
class Acknowledged:
    """A write that its host said yes to: stamp and keys (None: deleted); `whole`: all other keys are gone.

    `seen`: the floor of what the host's file held when it was made.
    """

    stamp: Stamp
    entries: dict[str, Any]
    whole: bool
    seen: Stamp


class World:
    """Time, network and hosts; `play` runs a schedule of faults and writes, `heal` ends all faults but wrong clocks."""

    def __init__(self, seed: int, hosts: int, faults: Faults = Faults()) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.faults = faults
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = itertools.count()
        self._captured: list[Message] = []
        self.acknowledged: list[Acknowledged] = []
        self.messages = self.bytes = 0
        #: The home of the request queue is down.
        self.queue_is_down = False
        self.hosts = [Host(self, f"host-{number}") for number in range(hosts)]

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._tickets), action))

    def run_for(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._due)
            action()
        self.now_s = end_s

    def start(self) -> None:
        for host in self.hosts:
            host.start()

    def play(self, steps: int) -> None:
        """Random writes, cuts, crashes and clock steps, each followed by a random while."""
        self.start()
        for _ in range(steps):
            self.random.choice(self.hosts).misfortune_or_write()
            if self.happens(self.faults.replays):
                self.replay()
            self.run_for(self.random.choice((0.0, 0.01, 0.3, 5.0)))

    def heal(self) -> None:
        """Everybody is linked, and nothing is lost; enough time for the digests.  Clocks stay as they are."""
        self.faults = NO_FAULTS
        self.queue_is_down = False
        self.part(())
        for host in self.hosts:
            host.start()
            host.link(True)
        self.run_for(120.0)

    def part(self, away: Iterable[Host]) -> None:
        """Those of `away` and the others hear nothing of each other, though all have a link."""
        apart = set(map(id, away))
        for host in self.hosts:
            host.side = int(id(host) in apart)

    def replay(self) -> None:
        """Somebody without the key sends again what was said once, to whoever it was not meant for."""
        if self._captured:
            message = self.random.choice(self._captured)
            for host in self.hosts:
                self.after(self.random.uniform(0, 1.0), host.receiver(message, "nobody's queue"))

    def carry(self, message: Message, sender: Host, to: str) -> None:
        """The broker: everybody, one that serves, or one queue."""
        self.messages += 1
        self.bytes += len(json.dumps(message.body))
        if len(self._captured) < _CAPTURED:
            self._captured.append(message)
        linked = [host for host in self.hosts if host is not sender and host.linked and host.side == sender.side]
        if to == EVERYBODY:
            receivers = linked
        elif to == ANY_PEER:
            serving = [host for host in linked if host.serving and not self.queue_is_down]
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
    #: In the lock file: the greatest stamp of whatever was ever offered to the file.
    last_seen: Stamp = ZERO
    linked: bool = False
    serving: bool = False
    side: int = 0
    boot: int = 0
    replica: Replica | None = None
    reports: list[Reason] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.set_clock()
        self._latest_timer: dict[str, int] = {}
        self._ids = itertools.count()

    # --- Clock ------------------------------------------------------------------------------------

    def wall_ms(self) -> int:
        return max(0, START_MS + int(self.world.now_s * 1000) + self.skew_ms)

    def monotonic_s(self) -> float:
        return self.world.now_s

    # --- life ---------------------------------------------------------------------------------------

    @property
    def queue(self) -> str:
        return f"{self.name}/{self.boot}"

    @property
    def in_step(self) -> bool:
        return self.replica is not None and self.replica.in_step

    @property
    def trouble(self) -> str:
        return self.replica.trouble if self.replica else ""

    def start(self) -> None:
        if self.replica is None:
            self.boot += 1
            rng = random.Random(self.world.random.random())
            self.replica = Replica(
                self,
                self.disk,
                self,
                OpenRequests(),
                answer_timeout_s=1.0,
                digest_interval_s=30.0,
                rng=rng,
                answers_refused=Counter(),
            )
            self.link(True)

    def crash(self) -> None:
        """kill -9: what was not on the disk is gone."""
        self.replica, self.linked, self.serving = None, False, False

    def link(self, up: bool) -> None:
        if self.replica is None or up == self.linked:
            return
        self.linked = up
        if up:
            servers = sum(host.serving and host.side == self.side for host in self.world.hosts if host is not self)
            self.replica.link_up(None if self.world.queue_is_down else servers)
        else:
            self.serving = False
            self.replica.link_down()

    def set_clock(self) -> None:
        """As NTP keeps it: right but for a bounded error."""
        self.skew_ms = self.world.random.randint(-self.world.faults.skew_ms, self.world.faults.skew_ms)

    def misfortune_or_write(self) -> None:
        rng, choice = self.world.random, self.world.random.random()
        if choice < 0.1:
            self.crash() if self.replica else self.start()
        elif choice < 0.22:
            self.link(not self.linked)
        elif choice < 0.26:
            self.world.part(rng.sample(self.world.hosts, rng.randint(0, len(self.world.hosts) - 1)))
        elif choice < 0.29:
            self.world.queue_is_down = not self.world.queue_is_down
        elif choice < 0.33:
            self.set_clock()
        elif choice < 0.4 and self.world.faults.wrong_clocks:
            self.skew_ms += rng.choice((-1, 1)) * rng.choice(JUMPS_MS)
        else:
            self.write()

    # --- the file -------------------------------------------------------------------------------------

    def write(self) -> None:
        """What any program of the host does to the file: it is on the disk when it is acknowledged."""
        rng = self.world.random
        kind = rng.choice(
            ("write", "update", "update", "delete" if self.world.faults.deletions else "update", "destroy")
        )
        value = f"{self.name} {self.next_stamp()}"
        if kind == "write":
            self.write_whole(dict.fromkeys(rng.sample(KEYS, rng.randint(0, 3)), value))
        elif kind == "destroy":
            self.destroy()
        elif kind == "update":
            self.update({rng.choice(KEYS): value})
        else:
            self.update({}, [rng.choice(KEYS)])

    def next_stamp(self) -> Stamp:
        last = max(self.disk.last_stamp, self.disk.floor.stamp, self.last_seen)
        return next_stamp(last, min(self.wall_ms(), LATEST_MS), self.name)

    def write_whole(self, contents: dict[str, Any]) -> None:
        stamp = self.next_stamp()
        self._acknowledge(self.disk.written(contents, stamp, self._discovered_ms()), stamp, contents, whole=True)

    def destroy(self) -> None:
        stamp = self.next_stamp()
        self._acknowledge(self.disk.destroyed(stamp), stamp, {}, whole=True)

    def update(self, changes: dict[str, Any], gone: Iterable[str] = ()) -> None:
        stamp = self.next_stamp()
        try:
            document = self.disk.updated(changes, gone, stamp, self._discovered_ms())
        except PayloadError:
            return  # more keys than are allowed: refused, not acknowledged
        self._acknowledge(document, stamp, {**changes, **dict.fromkeys(gone)}, whole=False)

    def _discovered_ms(self) -> int:
        return max(1, min(self.wall_ms(), LATEST_MS))

    def _acknowledge(self, document: Document, stamp: Stamp, entries: dict[str, Any], whole: bool) -> None:
        self.world.acknowledged.append(Acknowledged(stamp, entries, whole, self.disk.floor.stamp))
        self._stored(document)

    def _stored(self, document: Document) -> None:
        if document is self.disk:
            return
        self.disk = document
        self.last_seen = max(self.last_seen, document.last_stamp, document.floor.stamp)
        self.history.append(document)
        self.world.after(self.world.random.uniform(0, 0.05), self._notice)

    def _notice(self) -> None:
        if self.replica is not None:
            self.replica.local_changed(self.disk)

    # --- ReplicaPort ------------------------------------------------------------------------------------

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str:
        boot, message_id = self.boot, f"{self.queue}-{next(self._ids)}"
        origin = Origin(self.name, self.name, str(boot), 0)
        message = Message(
            kind, "fleet", "c", message_id, origin, self.wall_ms(), json.loads(json.dumps(body)), answers
        )  # fmt: skip
        lost = not self.linked or self.world.happens(self.world.faults.confirm_loss)
        if not lost:
            self.world.carry(message, self, to)
        if kind == CACHE:
            self.world.after(self.world.random.uniform(0, 0.1), lambda: self._confirm(boot, not lost))
        return message_id

    def _confirm(self, boot: int, confirmed: bool) -> None:
        if self.replica is not None and self.boot == boot:
            self.replica.sent(confirmed)

    def merge(self, document: Document, node: str) -> None:
        # no space, a lock that is held for long, a queue that gives it up
        failed = self.world.happens(self.world.faults.merge_loss)

        def merge_now() -> None:
            if self.replica is None or failed:
                return
            merged, excess = self.disk.capped_merge(document)
            self.last_seen = max(self.last_seen, document.last_stamp, document.floor.stamp)
            if excess:
                self.replica.merge_refused(document, node, self.disk)
            else:
                self._stored(merged)

        self.world.after(self.world.random.uniform(0, 0.05), merge_now)

    def serve(self, serving: bool) -> None:
        self.serving = serving and self.linked

    def after(self, name: str, delay_s: float) -> None:
        boot, ticket = self.boot, self._latest_timer.get(name, 0) + 1
        self._latest_timer[name] = ticket

        def due() -> None:
            if self.replica is not None and self.boot == boot and self._latest_timer[name] == ticket:
                self.replica.timers[name]()

        self.world.after(delay_s, due)

    def report(self, reason: Reason, message: str) -> None:
        self.reports.append(reason)

    def receiver(self, message: Message, reply_to: str) -> Callable[[], None]:
        boot = self.boot

        def deliver() -> None:
            if self.replica is not None and self.linked and self.boot == boot and message.origin.node != self.name:
                self.replica.received(message, reply_to)

        return deliver
