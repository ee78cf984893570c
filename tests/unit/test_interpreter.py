"""Between a fleet and the old mesh, without threads: several hosts on one in-memory broker and one clock."""

from __future__ import annotations

import heapq
import itertools
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.fernet import Fernet

from miros_cache_net import limits
from miros_cache_net.amqp.link import Link, Publication
from miros_cache_net.amqp.memory import MemoryBroker, MemoryLink
from miros_cache_net.amqp.topology import Topology
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import Reason, SettingsError
from miros_cache_net.fleet.place import Place, mesh_queue_name
from miros_cache_net.mesh.cache_events import cache_text, content_of
from miros_cache_net.mesh.election import Election
from miros_cache_net.mesh.heard_writes import HeardWrites
from miros_cache_net.mesh.interpreter import Interpreter
from miros_cache_net.mesh.news import News
from miros_cache_net.mesh.topology import MESH_EXCHANGE, listening_topology
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.store.changes import Change
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire.keyring import KeyRing, RingProvider, generate_key
from miros_cache_net.wire.mesh import event_text
from miros_cache_net.wire.pickled import dump_pair
from miros_cache_net.wire.token_window import Mark

PLACE = Place("miros.cache.exchange", "fleet", "cache.json")


class World:
    """Hosts, what each says to old programs, and the time."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(synchronous=True, clock=self.clock)
        self.key = generate_key()
        self.ring = KeyRing((self.key,))
        self.key_is_missing = False
        self.settings = Settings(
            amqp_urls="amqp://localhost", keys=generate_key(), file=directory / "cache.json", mesh=True
        )
        self.hosts: list[Host] = []
        self.said: list[str] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers, self._cancelled = itertools.count(), set[int]()
        self._old = MemoryLink(self.broker, listening_topology(MESH_EXCHANGE, "nothing"))
        self._old.start(Nobody())

    def open_rings(self) -> RingProvider:
        if self.key_is_missing:
            raise SettingsError("no key of the mesh", mend="set MESH_ENCRYPTION_KEY")
        return lambda: self.ring

    def host(self, name: str) -> Host:
        host = Host(self, name)
        self.hosts.append(host)
        host.start()
        return host

    def later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        number = next(self._numbers)
        due_s = self.clock.monotonic_s() + delay_s
        heapq.heappush(self._timers, (due_s, number, call))
        return lambda: self._cancelled.add(number)

    def run(self, for_s: float) -> None:
        """Let time pass."""
        until_s = self.clock.monotonic_s() + for_s
        self.settle()
        while self._timers and self._timers[0][0] <= until_s:
            due_s, number, call = heapq.heappop(self._timers)
            self.clock.advance(max(0.0, due_s - self.clock.monotonic_s()))
            if number not in self._cancelled:
                call()
                self.settle()
        self.clock.advance(max(0.0, until_s - self.clock.monotonic_s()))

    def settle(self) -> None:
        while True:
            worked = [host.work() for host in list(self.hosts)]
            if not any(worked):
                return

    def sealed(self, sender: str, text: str, ahead_s: int = 0) -> bytes:
        """A body of the old mesh, by a clock that is so far ahead."""
        return Fernet(self.key).encrypt_at_time(dump_pair(sender, text), self.clock.wall_ms() // 1000 + ahead_s)

    def old(self, name: str, payload: Any = None, ahead_s: int = 0) -> bytes:
        """An old program transmits; returns the body."""
        body = self.sealed("192.168.1.9", event_text(name, payload), ahead_s)
        self.send(body)
        return body

    def send(self, body: bytes, message_id: str = "") -> None:
        self._old.publish(Publication(body, MESH_EXCHANGE, "any", message_id=message_id))
        self.settle()


class Nobody:
    def link_up(self, up: object) -> None: ...

    def link_down(self, error: object) -> None: ...

    def delivered(self, delivery: object) -> None: ...


class FakeVoice:
    """What a `Voice` does, at one broker and at once."""

    def __init__(self, world: World, host: Host, *_: Any) -> None:
        self._world, self._host, self._count = world, host, itertools.count()

    def say(self, text: str) -> None:
        self._world.said.append(text)
        message_id = f"{self._host.name}-{next(self._count)}"
        body = self._world.sealed("192.168.1.1", text)
        self._host.soon(lambda: self._world.send(body, message_id))

    def said(self, message_id: str) -> bool:
        return message_id.startswith(f"{self._host.name}-")

    def heard_from(self, sender: str) -> None: ...

    def stop(self) -> None: ...

    stop_soon = stop


class Host:
    """A host's file and its place in the fleet, as an interpreter sees them: `InterpreterPort` and `Fleet`."""

    on_mesh: Callable[[Any], None]

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.document = Document.unwritten({})
        self.is_in_sync, self.spreads, self.stores, self.readable = True, True, True, True
        self.sent = 0
        self.news_are_late = False
        self._late: list[Any] = []
        self.reports: list[tuple[Reason, str]] = []
        self.waiting: list[tuple[Change, Callable[[Exception | None], None]]] = []
        self._queue: list[Callable[[], None]] = []
        self.registry = Registry()

        def make_link(_settings: Settings, _peer: str, topology: Topology) -> Link:
            self.link = MemoryLink(world.broker, topology)
            return self.link

        self.interpreter = Interpreter(
            self,
            self,
            world.settings,
            PLACE,
            open_rings=world.open_rings,
            is_main=True,
            clock=world.clock,
            rng=random.Random(name),
            make_node=lambda *_: None,  # type: ignore[arg-type, return-value]
            registry=self.registry,
            make_link=make_link,
        )
        self.interpreter._make_voice = partial(FakeVoice, world, self)  # type: ignore[assignment, arg-type]

    def start(self) -> None:
        self.interpreter.start()
        self.interpreter.local_changed(self.document)
        self.world.settle()

    def soon(self, call: Callable[[], None]) -> None:
        """Have it called on this host's thread."""
        self._queue.append(call)

    def work(self) -> bool:
        queue, self._queue = self._queue, []
        for call in queue:
            call()
        return bool(queue)

    @property
    def speaks(self) -> bool:
        return bool(self.registry.flat()["mesh_speaks"])

    def crash(self) -> None:
        """Gone without a word."""
        self.world.hosts.remove(self)
        self._queue.clear()
        self.world.broker.cut(self.link)
        self.world.settle()

    def writes(self, contents: dict[str, Any]) -> None:
        """A program of this host writes; the fleet has it at once."""
        now_ms = self.world.clock.wall_ms()
        stamp = Stamp(max(now_ms, self.document.last_stamp.wall_ms), self.document.last_stamp.counter + 1, self.name)
        self.changed(self.document.written(contents, stamp, now_ms))

    def changed(self, document: Document) -> None:
        for host in self.world.hosts if self.spreads else [self]:
            host.document = host.document.merged(document)
            host.interpreter.local_changed(host.document)
        self.world.settle()

    # --- InterpreterPort and Fleet -----------------------------------------------------------------------

    def mesh_event(self, name: str, payload: Any = None) -> None:
        self.soon(lambda: self.interpreter.handle(name, payload))

    def mesh_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        return self.world.later(delay_s, lambda: self.mesh_event(name, payload))

    def report(self, reason: Reason, message: str) -> None:
        self.reports.append((reason, message))

    def write(self, change: Change, over: Callable[[Exception | None], None]) -> None:
        self.waiting.append((change, over))
        if self.stores:
            self.store_all()

    def store_all(self) -> None:
        waiting, self.waiting = self.waiting, []
        for change, over in waiting:
            stamp = Stamp(self.world.clock.wall_ms(), self.document.last_stamp.counter + 1, self.name)
            self.changed(change.apply(self.document, stamp, self.world.clock.wall_ms()))
            over(None)

    def held(self) -> Document | None:
        return self.document if self.readable else None

    def has_spread(self, document: Document) -> bool:
        return self.spreads

    def send(self, kind: str, body: Any, to: str) -> str:
        self.sent += 1
        if self.news_are_late:
            self._late.append(body)
        else:
            self._tell_others(body)
        return "id"

    def news_arrive(self) -> None:
        """Those that are late; the host itself may be gone."""
        late, self._late = self._late, []
        for body in late:
            self._tell_others(body)
        self.world.settle()

    def _tell_others(self, body: Any) -> None:
        for host in self.world.hosts:
            if host is not self:
                host.soon(partial(host.on_mesh, body))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(tmp_path)


@pytest.fixture
def hosts(world: World) -> list[Host]:
    made = [world.host(name) for name in ("alpha", "beta", "gamma")]
    world.run(1)
    assert [host.speaks for host in made] == [True, False, False]
    return made


def cache(contents: dict[str, Any]) -> str:
    return event_text("CACHE", contents)


def test_write_is_stored_once_and_not_echoed(world: World, hosts: list[Host]) -> None:
    world.old("CACHE_FILE_WRITE", {"a": 1})
    world.run(60)
    assert [host.document.contents for host in hosts] == [{"a": 1}] * 3
    assert hosts[0].document.floor.stamp.node == "alpha"
    assert world.said == []


def test_read_is_answered_whatever_was_said_before(world: World, hosts: list[Host]) -> None:
    world.old("CACHE_FILE_WRITE", {"a": 1})
    world.old("CACHE_FILE_READ")
    world.run(1)
    world.old("CACHE_FILE_READ")
    world.run(60)
    assert world.said == [cache({"a": 1})] * 2


@pytest.mark.parametrize("writer", [0, 1, 2])
def test_change_of_any_host_is_said_once(world: World, hosts: list[Host], writer: int) -> None:
    hosts[writer].writes({"a": 1})
    world.run(60)
    assert world.said == [cache({"a": 1})]


def test_many_changes_are_said_in_few_events(world: World, hosts: list[Host]) -> None:
    for number in range(100):
        hosts[1].writes({"number": number})
    world.run(60)
    assert len(world.said) < 20 and world.said[-1] == cache({"number": 99})


def test_nothing_is_said_while_a_write_is_pending(world: World, hosts: list[Host]) -> None:
    hosts[0].stores = False
    for value in "PQP":
        world.old("CACHE_FILE_WRITE", {"v": value})
        hosts[1].writes({"of": "beta"})
    world.run(1)
    assert world.said == []
    hosts[0].store_all()
    world.run(60)
    assert world.said == [] and hosts[2].document.contents == {"v": "P"}


def test_successor_says_what_its_predecessor_did_not(world: World, hosts: list[Host]) -> None:
    hosts[0].writes({"said": 1})
    world.run(5)
    hosts[0].crash()
    hosts[1].writes({"said": 2})
    world.run(5)
    assert world.said == [cache({"said": 1}), cache({"said": 2})]
    assert [host.speaks for host in hosts[1:]] == [True, False]


def test_successor_repeats_nothing_that_was_said(world: World, hosts: list[Host]) -> None:
    hosts[0].writes({"said": 1})
    world.run(5)
    for host in hosts[:2]:
        host.crash()
    world.run(120)
    assert hosts[2].speaks and world.said == [cache({"said": 1})]


def test_predecessors_late_news_change_nothing(world: World, hosts: list[Host]) -> None:
    hosts[0].news_are_late = True
    world.old("CACHE_FILE_WRITE", {"heard": "by alpha"})
    hosts[0].crash()
    world.old("CACHE_FILE_WRITE", {"heard": "by beta"})
    hosts[0].news_arrive()
    assert hosts[1].speaks
    world.run(120)
    assert world.said == []


def test_host_that_speaks_no_longer_does_not_silence_its_successor(world: World, hosts: list[Host]) -> None:
    hosts[0].spreads = False
    world.old("CACHE_FILE_WRITE", {"heard": "by both"})
    world.broker.cut(hosts[0].link)
    world.run(5)
    world.old("CACHE_FILE_WRITE", {"heard": "by beta"})
    hosts[0].spreads = True
    hosts[0].interpreter.look()
    world.settle()
    assert [host.speaks for host in hosts] == [False, True, False]
    world.run(120)
    assert world.said == []


def test_greatest_term_silences_nobody(world: World, hosts: list[Host]) -> None:
    for host in hosts:
        host.on_mesh(News(limits.MESH_TERMS, "", ()).to_body())
    world.old("CACHE_FILE_WRITE", {"a": 1})
    captured = world.old("CACHE_FILE_WRITE", {"a": 2})
    assert hosts[0].speaks
    hosts[0].crash()
    world.run(120)
    world.send(captured)
    world.old("CACHE_FILE_WRITE", {"a": 3})
    world.send(captured)
    world.run(60)
    assert [host.document.contents for host in hosts[1:]] == [{"a": 3}] * 2
    assert not any(host.interpreter.trouble for host in hosts[1:])


def test_write_for_another_document_is_passed_over(world: World, hosts: list[Host]) -> None:
    world.old("CACHE_FILE_WRITE", {"json": {"a": 1}, "file_name": "other.json"})
    world.run(60)
    assert not any(host.document.is_written for host in hosts)
    world.old("CACHE_FILE_WRITE", {"json": {"a": 2}, "file_name": "cache.json"})
    assert [host.document.contents for host in hosts] == [{"a": 2}] * 3


def test_term_ends_with_the_link() -> None:
    election = Election(Mock(), "queue", lambda _: None, interval_s=30.0, rng=random.Random(1))
    election.link_up()
    election.serve(True)
    election.chosen()
    assert election.speaks and election.term == 1
    election.link_down()
    assert not election.speaks and election.term == 0


def test_late_news_cause_no_repetition_or_silence(tmp_path: Path) -> None:
    for seed in range(40):
        world, rng = World(tmp_path), random.Random(seed)
        for name in ("alpha", "beta", "gamma", "delta"):
            world.host(name)
        gone: list[Host] = []
        world.run(1)
        for number in range(30):
            speaker = next(host for host in world.hosts if host.speaks)
            speaker.news_are_late = rng.random() < 0.5
            world.old("CACHE_FILE_WRITE", {"number": number})
            if rng.random() < 0.1 and len(world.hosts) > 1:
                gone.append(speaker)
                speaker.crash()
                world.old("CACHE_FILE_WRITE", {"crash": number})
            for host in [*gone, *world.hosts]:
                if rng.random() < 0.5:
                    host.news_arrive()
            world.run(rng.choice((0.01, 0.2, 3.0)))
        world.run(120)
        assert world.said == [], seed
        assert [host.speaks for host in world.hosts].count(True) == 1, seed


def test_unspread_write_is_taken_by_the_successor(world: World, hosts: list[Host]) -> None:
    hosts[0].spreads = False
    world.old("CACHE_FILE_WRITE", {"a": 1})
    assert hosts[0].document.contents == {"a": 1} and not hosts[1].document.is_written
    hosts[0].crash()
    world.run(1)
    assert [host.document.contents for host in hosts[1:]] == [{"a": 1}] * 2


def test_spread_write_is_acknowledged_to_the_broker(world: World, hosts: list[Host]) -> None:
    world.old("CACHE_FILE_WRITE", {"a": 1})
    hosts[1].writes({"b": 2})
    hosts[0].crash()
    world.run(120)
    assert hosts[1].document.contents == {"b": 2}
    assert "mesh_refused_replayed" not in hosts[1].registry.flat(), "it came again"


def test_token_that_another_host_took_is_refused(world: World, hosts: list[Host]) -> None:
    body = world.old("CACHE_FILE_WRITE", {"a": 1}, ahead_s=30)
    world.run(1)
    late = world.host("late")
    late.changed(hosts[1].document)
    world.run(1)
    hosts[1].writes({"b": 2})
    for host in hosts[:2]:
        host.crash()
    world.send(body)
    world.run(1)
    hosts[2].crash()
    world.send(body)
    world.run(1)
    assert hosts[2].registry.flat()["mesh_refused_replayed"] == 1 == late.registry.flat()["mesh_refused_replayed"]
    assert late.document.contents == {"b": 2}


def test_host_out_of_step_does_not_stand_for_election(world: World, hosts: list[Host]) -> None:
    hosts[0].is_in_sync = False
    hosts[0].interpreter.look()
    world.run(1)
    assert world.broker.consumers(mesh_queue_name(PLACE)) == 2
    hosts[1].writes({"a": 1})
    world.run(5)
    assert [host.speaks for host in hosts] == [False, True, False] and world.said == [cache({"a": 1})]


def test_two_that_think_they_speak_become_one(world: World, hosts: list[Host]) -> None:
    world.broker.delete_queue(mesh_queue_name(PLACE))
    hosts[1].on_mesh(News(2, "", ()).to_body())
    assert not hosts[1].speaks
    hosts[0].on_mesh(News(2, "", ()).to_body())
    assert not hosts[0].speaks
    world.run(60)
    assert sum(host.speaks for host in hosts) == 1


def test_squatter_is_reported_once_until_it_goes(world: World, hosts: list[Host]) -> None:
    queue = mesh_queue_name(PLACE)
    world.broker.withhold_queue(queue)
    hosts[0].interpreter.heard_news(News(2, "", ()).to_body())
    world.run(300)
    assert queue in hosts[1].interpreter.trouble
    assert sum("takes part" in line for _, line in hosts[1].reports) == 1
    world.broker.grant_queue(queue)
    world.run(300)
    assert not any(host.interpreter.trouble for host in hosts)


def test_quiet_fleet_nudges_once_an_interval(world: World, hosts: list[Host]) -> None:
    before = sum(not each.exchange for each in world.broker.messages)
    world.run(3000)
    nudges = sum(not each.exchange for each in world.broker.messages) - before
    assert 60 <= nudges <= 250, "3 hosts, 100 intervals"


def test_host_kept_apart_nudges_no_more_than_others(world: World, hosts: list[Host]) -> None:
    hosts[2].spreads = False
    hosts[2].writes({"of": "gamma alone"})
    before = sum(not each.exchange for each in world.broker.messages)
    world.run(3000)
    assert sum(not each.exchange for each in world.broker.messages) - before <= 250, "3 hosts, 100 intervals"


def test_message_without_the_key_makes_nobody_speak(world: World, hosts: list[Host]) -> None:
    hosts[0].writes({"a": 1})
    world.run(5)
    before = hosts[0].sent
    for _ in range(50):
        world.send(b"no token", "alpha-0")
    assert hosts[0].sent == before


def test_write_in_an_unreadable_file_is_not_acknowledged(world: World, hosts: list[Host]) -> None:
    hosts[0].readable = False
    world.old("CACHE_FILE_WRITE", {"a": 1})
    hosts[0].crash()
    world.run(60)
    came_again = [host.registry.flat().get("mesh_received_CACHE_FILE_WRITE", 0) for host in hosts[1:]]
    assert sum(came_again) == 1


def test_missing_key_is_told_once_until_it_is_there(world: World) -> None:
    world.key_is_missing = True
    host = world.host("a")
    world.run(20)
    assert host.reports == [
        (Reason.SETTINGS, "this host takes no part in the mesh: no key of the mesh; set MESH_ENCRYPTION_KEY")
    ]
    assert host.interpreter.trouble == host.reports[0][1]
    world.key_is_missing = False
    world.run(10)
    assert not host.interpreter.trouble
    world.old("CACHE_FILE_WRITE", {"a": 1})
    assert host.document.contents == {"a": 1}


def test_marks_are_kept_once() -> None:
    marks = [Mark(1, b"a" * 16), Mark(2, b"b" * 16)]
    writes = HeardWrites(Mock(), Mock(), Mock())
    for _ in range(3):
        writes.know(marks)
    assert writes.marks == tuple(marks)


def test_document_beyond_the_cap_is_reported_once(world: World, hosts: list[Host]) -> None:
    hosts[1].writes({"a": "x" * 5_000_000})
    world.run(60)
    assert world.said == [] and [reason for reason, _ in hosts[0].reports] == [Reason.TOO_LARGE]


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"content": 1, "marks": []}, {"content": "", "marks": [[1]]},
     {"content": "", "marks": [["1", "AA=="]]},
     {"content": "", "marks": [[1, "AA=="]]}, {"content": "", "marks": [[-1, "A" * 22 + "=="]]},
     {"content": "", "marks": [[1, "A" * 22 + "=="]] * 1001},
     *({"content": "", "marks": [], "term": term} for term in (-1, True, 1.0, "1", None, 2**53))],
)  # fmt: skip
def test_news_of_another_form_is_ignored(body: Any) -> None:
    assert News.from_body(body) is None


def test_news_are_read_as_written() -> None:
    news = News(7, "digest", (Mark(1, bytes(16)), Mark(2, bytes(range(16)))))
    assert News.from_body(news.to_body()) == news


def test_content_is_what_old_programs_are_told() -> None:
    stamp = Stamp(1, 0, "alpha")
    plain = Document.unwritten({}).written({"amqp_urls": ["amqp://peter@host"]}, stamp, 1)
    secret = Document.unwritten({}).written({"amqp_urls": ["amqp://peter:secret@host"]}, stamp, 1)
    assert content_of(plain) == content_of(secret) and "secret" not in cache_text(secret)


def test_node_without_the_mesh_loads_nothing_of_it(tmp_path: Path) -> None:
    code = f"""
import sys
from miros_cache_net import CacheNode, Settings
from miros_cache_net.amqp.memory import MemoryBroker, MemoryLink
from miros_cache_net.fleet.place import document_topology
from miros_cache_net.wire.keyring import generate_key
broker = MemoryBroker()
settings = Settings(keys=generate_key(), file="{tmp_path}/cache.json")
with CacheNode(settings=settings, link_factory=lambda _, place: MemoryLink(broker, document_topology(place))) as node:
    assert node.wait_connected(30)
print([name for name in sys.modules if name.startswith("miros_cache_net.mesh")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
