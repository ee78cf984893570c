"""What strangers and holders of the old mesh's key may send to a fleet: its file stays as it is, and all is counted."""

from __future__ import annotations

import json
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros.event import signals
from pika.exceptions import ChannelClosedByBroker

from miros_cache_net import CacheNode, Settings
from miros_cache_net.document.layout import META_KEY
from miros_cache_net.events import CACHE_ERROR
from miros_cache_net.fleet.place import mesh_queue_name
from miros_cache_net.mesh.topology import MESH_EXCHANGE
from miros_cache_net.statechart.listener import Listener
from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.integration.rabbit_links import channel_to
from tests.mesh.test_hostile_mesh import BODIES, Event_dumps

SENDER = "192.168.1.75"
HELD = {"held": [1]}


class Rig:
    """Hosts of one fleet, and a program that holds the key of the old mesh."""

    def __init__(self, url: str, directory: Path, channel: Any) -> None:
        self.url, self._directory, self._channel = url, directory, channel
        self.keys, self.mesh_key = generate_key(), generate_key()
        self.fernet = Fernet(self.mesh_key)
        self.scope = uuid.uuid4().hex[:8]
        self.nodes: dict[str, CacheNode] = {}

    def start(self, name: str) -> CacheNode:
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        settings = Settings(
            amqp_urls=self.url,
            keys=self.keys,
            mesh=True,
            mesh_key=self.mesh_key.decode(),
            file=directory / "cache.json",
            scope=self.scope,
            node_name=name,
            discover="127.0.0.1",
        )
        node = self.nodes[name] = CacheNode(settings=settings)
        assert node.wait_connected(30)
        wait_until(lambda: any(map(self.speaks, self.nodes)), 30, "a host that speaks")
        return node

    def stop(self, name: str) -> None:
        self.nodes.pop(name).stop()

    def raw(self, body: bytes) -> None:
        self._channel.basic_publish(MESH_EXCHANGE, "any.key", body)

    def sealed(self, contents: bytes) -> bytes:
        return self.fernet.encrypt(contents)

    def event(self, name: str = "CACHE_FILE_WRITE", payload: object = None, sender: str = SENDER) -> bytes:
        return self.sealed(pickle.dumps((sender, Event_dumps(name, payload)), 3))

    def counters(self, name: str = "alpha") -> dict[str, int]:
        counters: dict[str, int] = self.nodes[name].status()["counters"]
        return counters

    def speaks(self, name: str) -> bool:
        return bool(self.counters(name).get("mesh_speaks"))

    def refused(self, reason: str, times: int = 1, name: str = "alpha") -> None:
        wait_until(
            lambda: self.counters(name).get(f"mesh_refused_{reason}", 0) == times, 30, f"{times} refused as {reason}"
        )

    def contents(self, name: str = "alpha") -> dict[str, Any]:
        return dict(self.nodes[name].file_chart.document().contents)

    def writes(self, payload: object, *names: str) -> bytes:
        """An old program's write, which lands; returns its body."""
        body = self.event(payload=payload)
        self.raw(body)
        for name in names or tuple(self.nodes):
            wait_until(lambda name=name: self.contents(name) == payload, 30, f"{payload} on {name}")
        return body


@pytest.fixture
def rig(rabbit_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.chdir(tmp_path)
    with channel_to(rabbit_url) as channel:
        channel.exchange_declare(MESH_EXCHANGE, "topic", durable=False)
        made = Rig(rabbit_url, tmp_path, channel)
        try:
            made.start("alpha")
            made.writes(HELD)
            yield made
        finally:
            for name in list(made.nodes):
                made.stop(name)
    assert not (tmp_path / "ran").exists()


@contextmanager
def errors() -> Iterator[list[str]]:
    """The messages of all ``CACHE_ERROR`` meanwhile."""
    told: list[str] = []
    with Listener({CACHE_ERROR: lambda payload: told.append(payload.message)}, "errors"):
        yield told


MORE: dict[str, tuple[Callable[[Rig], bytes], str]] = {
    "a list": (lambda rig: rig.event(payload=[1, 2, 3]), "payload"),
    "text": (lambda rig: rig.event(payload="text"), "payload"),
    "nothing": (lambda rig: rig.event(), "payload"),
    "our reserved key": (lambda rig: rig.event(payload={META_KEY: {}}), "payload"),
    "a key that is no text": (lambda rig: rig.event(payload={"\ud800": 1}), "malformed"),
    "a number that is none": (lambda rig: rig.event(payload={"a": float("nan")}), "malformed"),
    "a file name that is none": (lambda rig: rig.event(payload={"json": {}, "file_name": 7}), "payload"),
    "a key of 5 kB": (lambda rig: rig.event(payload={"k" * 5000: 1}), "store"),
    "70,000 keys": (lambda rig: rig.event(payload=dict.fromkeys(map(str, range(70_000)))), "store"),
    "text of a document": (lambda rig: rig.event(payload='{"a": 1}'), "payload"),
    "5 MB": (lambda rig: rig.event(payload={"a": "x" * 5_000_000}), "too_large"),
    "of ten minutes ago": (
        lambda rig: rig.fernet.encrypt_at_time(
            pickle.dumps((SENDER, Event_dumps("CACHE_FILE_WRITE", {}))), int(time.time()) - 600
        ),
        "too_old",
    ),
}
#: Those are no event of a cache, so they are passed over like every other.
OTHERS = {name for name, (_, reason) in BODIES.items() if reason == "signal"}
REFUSED = {**{name: each for name, each in BODIES.items() if name not in OTHERS}, **MORE}


def test_hostile_events_are_counted_and_change_nothing(rig: Rig, rabbit_server: RabbitServer) -> None:
    before = rig.nodes["alpha"].file_chart.path.read_bytes()
    expected = dict[str, int]()
    for name, (body, reason) in REFUSED.items():
        expected[reason] = expected.get(reason, 0) + 1
        rig.raw(body(rig))  # type: ignore[arg-type]
        try:
            rig.refused(reason, expected[reason])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
    for name in OTHERS:
        rig.raw(BODIES[name][0](rig))  # type: ignore[arg-type]
    unknown = f"UNKNOWN_{rig.scope}"
    rig.raw(rig.event(unknown, {"a": 1}))
    wait_until(lambda: rig.counters().get("mesh_received_other") == len(OTHERS) + 1)
    assert rig.nodes["alpha"].file_chart.path.read_bytes() == before
    assert unknown not in signals
    queue = mesh_queue_name(rig.nodes["alpha"].place)
    listed = rabbit_server.ctl("list_queues", "name", "messages", "messages_unacknowledged").splitlines()
    assert [line.split()[1:] for line in listed if line.startswith(queue)] == [["0", "0"]]
    rig.writes({"after": "all"})


def test_captured_token_counts_once_in_any_spelling(rig: Rig) -> None:
    body = rig.writes({"taken": 1})
    rig.writes({"newer": 2})
    for spelling in (body, body[:60] + b"\n" + body[60:]):
        rig.raw(spelling)
    rig.refused("replayed", 2)
    assert rig.contents() == {"newer": 2}


def test_captured_token_is_refused_after_a_restart(rig: Rig) -> None:
    body = rig.writes({"taken": 1})
    rig.stop("alpha")
    # the clock of a token counts whole seconds
    wait_until(lambda: int(time.time()) > int.from_bytes(_decoded(body)[1:9], "big"))
    rig.start("alpha")
    # what the broker had no acknowledgement of comes again before this
    rig.writes({"newer": 2})
    came_again = rig.counters().get("mesh_refused_too_old", 0)
    rig.raw(body)
    rig.refused("too_old", came_again + 1)
    assert rig.contents() == {"newer": 2}


def _decoded(token: bytes) -> bytes:
    import base64

    return base64.urlsafe_b64decode(token)


def test_captured_token_is_refused_at_another_host(rig: Rig) -> None:
    rig.start("beta")
    body = rig.writes({"taken": 1})
    wait_until(lambda: rig.counters("beta").get("received_mesh", 0) > 0)
    rig.writes({"newer": 2})
    rig.stop("alpha")
    rig.raw(body)
    rig.refused("replayed", 1, "beta")
    rig.writes({"newest": 3})


@pytest.mark.parametrize(("off_s", "words"), [(-600, "s ago"), (600, "s from now")])
def test_program_whose_clock_is_off_is_named(rig: Rig, off_s: int, words: str) -> None:
    write = pickle.dumps(("192.168.7.9", Event_dumps("CACHE_FILE_WRITE", {"a": 1})))
    with errors() as told:
        rig.raw(rig.fernet.encrypt_at_time(write, int(time.time()) + off_s))
        wait_until(lambda: any("192.168.7.9" in each for each in told), 30, "its name")
    line = next(each for each in told if "192.168.7.9" in each)
    assert f"{words}: is a clock wrong, here or at the sender?" in line


def test_write_that_names_another_document_is_passed_over(rig: Rig) -> None:
    rig.raw(rig.event(payload={"json": {"a": 1}, "file_name": "other.json"}))
    rig.raw(rig.event(payload=[{"b": 2}, "cache.json"]))
    wait_until(lambda: rig.contents() == {"b": 2})
    assert rig.counters()["mesh_received_CACHE_FILE_WRITE"] == 3


@contextmanager
def squatting(url: str, queue: str) -> Iterator[Any]:
    """Somebody declares the queue otherwise before the hosts, who lose it, declare it again."""
    for _ in range(100):
        with channel_to(url) as squatter:
            squatter.queue_delete(queue)
            try:
                squatter.queue_declare(queue)
            except ChannelClosedByBroker:
                continue  # a host was faster
            yield squatter
            return
    raise AssertionError("the hosts were faster each time")


def test_squatter_on_the_elections_queue_is_named(rig: Rig, rabbit_url: str) -> None:
    queue = mesh_queue_name(rig.nodes["alpha"].place)
    node = rig.nodes["alpha"]
    with squatting(rabbit_url, queue) as squatter, errors() as told:
        wait_until(lambda: "no host of this fleet takes part" in node.status()["trouble"], 60, "the trouble")
        assert queue in node.status()["trouble"]
        wait_until(lambda: any("no host of this fleet takes part" in each for each in told), what="it to be told")
        assert sum("no host of this fleet takes part" in each for each in told) == 1
        squatter.queue_delete(queue)
    wait_until(lambda: rig.speaks("alpha") and not node.status()["trouble"], 60, "it to speak again")
    rig.writes({"after": "the squatter"})


def test_file_holds_no_password_of_an_old_program(rig: Rig) -> None:
    urls = {"amqp_urls": ["amqp://peter:secret@192.168.1.75:5672/%2F"]}
    rig.raw(rig.event(payload=json.loads(json.dumps(urls))))
    wait_until(lambda: "amqp_urls" in rig.contents())
    assert "secret" not in rig.nodes["alpha"].file_chart.path.read_text()
