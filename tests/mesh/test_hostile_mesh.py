"""What strangers and holders of the key may send to a networked chart: nothing runs, nothing grows, all is counted."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros.event import Event, signals

from miros_cache_net import limits
from miros_cache_net.mesh import signal_names
from miros_cache_net.mesh.signal_names import SignalNames
from miros_cache_net.mesh.topology import MESH_EXCHANGE, TRACE_EXCHANGE, TRACE_ROUTING_KEY
from miros_cache_net.testing import RabbitServer, wait_until
from miros_cache_net.wire.mesh import event_text
from tests.integration.rabbit_links import channel_to
from tests.mesh.networked_charts import Mesh, hears

SENDER = "192.168.1.75"


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


class Rig:
    """A chart that listens, and a channel to send anything to it."""

    def __init__(self, mesh: Mesh, channel: Any) -> None:
        self.mesh, self._channel = mesh, channel
        self.fernet = Fernet(mesh.key)
        self.chart = mesh.make("alpha")

    def raw(self, body: bytes, exchange: str = MESH_EXCHANGE, key: str = "") -> None:
        self._channel.basic_publish(exchange, key or f"{self.mesh.word}.man", body)

    def sealed(self, contents: bytes) -> bytes:
        return self.fernet.encrypt(contents)

    def event(self, name: str = "B", payload: object = None, sender: str = SENDER) -> bytes:
        return self.sealed(pickle.dumps((sender, Event_dumps(name, payload)), 3))

    def refused(self, reason: str, times: int = 1) -> None:
        counters = lambda: self.chart.nets.counters  # noqa: E731
        wait_until(lambda: counters()[f"mesh_refused_{reason}"] == times, 30, f"{times} refused as {reason}")

    def still_hears(self) -> None:
        self.raw(self.event(payload="still"))
        wait_until(lambda: ("B", "still") in self.chart.heard, 30, "the next good event")


def Event_dumps(name: str, payload: object = None) -> str:
    """As `miros.Event.dumps`, without making the signal known here."""
    return json.dumps({"signal_name": name, "payload": payload})


@pytest.fixture
def rig(rabbit_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal_names.OF_THIS_PROCESS, "_new", 0)
    mesh = Mesh(rabbit_url, tmp_path)
    with channel_to(rabbit_url) as channel:
        channel.exchange_declare(MESH_EXCHANGE, "topic", durable=False)
        channel.exchange_declare(TRACE_EXCHANGE, "topic", durable=False)
        made = Rig(mesh, channel)
        made.chart.enable_snoop_trace()
        from tests.mesh.networked_charts import connected, start

        start(made.chart)
        connected(made.chart)
        yield made
    mesh.close()
    assert not (tmp_path / "ran").exists()


def test_old_programs_and_ours_read_each_others_events(rig: Rig) -> None:
    rig.raw(rig.event("B", {"a": 1}))
    hears(rig.chart, {"a": 1})


BODIES: dict[str, tuple[Callable[[Rig], bytes], str]] = {
    "an unencrypted pickle that runs a command": (lambda rig: pickle.dumps(Runs()), "not_authentic"),
    "the same encrypted with the key": (lambda rig: rig.sealed(pickle.dumps(Runs())), "malformed"),
    "one inside a valid tuple": (lambda rig: rig.sealed(pickle.dumps((SENDER, Runs()))), "malformed"),
    "a memo bomb": (lambda rig: b"\x80\x03Nr\xff\xff\xff\x7f.", "not_authentic"),
    "a memo bomb with the key": (lambda rig: rig.sealed(b"\x80\x03Nr\xff\xff\xff\x7f."), "malformed"),
    "nested tuples": (lambda rig: rig.sealed(pickle.dumps(((SENDER, "a"), "b"))), "malformed"),
    "trailing bytes": (lambda rig: rig.sealed(pickle.dumps((SENDER, event_text("B"))) + b"x"), "malformed"),
    "another type": (lambda rig: rig.sealed(pickle.dumps({"a": 1})), "malformed"),
    "an address that is none": (lambda rig: rig.event(sender="not.an.address"), "malformed"),
    "no JSON": (lambda rig: rig.sealed(pickle.dumps((SENDER, "B"))), "malformed"),
    "the end of a thread": (lambda rig: rig.event("STOP_ACTIVE_OBJECT_SIGNAL"), "signal"),
    "the end of the fabric": (lambda rig: rig.event("STOP_FABRIC_SIGNAL"), "signal"),
    "an entry": (lambda rig: rig.event("ENTRY_SIGNAL"), "signal"),
    "a subscription": (lambda rig: rig.event("SUBSCRIBE_META_SIGNAL"), "signal"),
    "ten years old": (
        lambda rig: rig.fernet.encrypt_at_time(
            pickle.dumps((SENDER, event_text("B")), 3), int(time.time()) - 315_000_000
        ),
        "too_old",
    ),
    "from the future": (
        lambda rig: rig.fernet.encrypt_at_time(pickle.dumps((SENDER, event_text("B")), 3), int(time.time()) + 3600),
        "future",
    ),
    "20 MB": (lambda rig: bytes(20_000_000), "too_large"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_event_is_counted_and_the_chart_goes_on(rig: Rig, name: str) -> None:
    body, reason = BODIES[name]
    known = len(signals)
    rig.raw(body(rig))
    rig.refused(reason)
    rig.still_hears()
    assert rig.chart.heard == [("B", "still")] and rig.chart.running and len(signals) == known


def test_a_refused_event_is_not_handed_back_to_the_broker(rig: Rig, rabbit_server: RabbitServer) -> None:
    for _ in range(3):
        rig.raw(b"poison")
    rig.refused("not_authentic", 3)
    rig.still_hears()
    assert rig.chart.nets.counters["mesh_refused_not_authentic"] == 3
    wait_until(
        lambda: all(
            line.split()[-1] == "0" for line in rabbit_server.ctl("list_queues", "name", "messages").splitlines()[1:]
        ),
        30,
        "all queues to be empty",
    )


def test_an_event_sent_twice_is_heard_once(rig: Rig) -> None:
    body = rig.event(payload=1)
    for spelling in (body, body, body[:60] + b"\n" + body[60:]):
        rig.raw(spelling)
    rig.refused("replayed", 2)
    hears(rig.chart, 1)


def test_an_unknown_sender_is_heard_but_never_dialled(rig: Rig) -> None:
    known = rig.chart.nets.ip_addresses
    rig.raw(rig.event(payload=1, sender="10.99.99.99"))
    hears(rig.chart, 1)
    assert rig.chart.nets.ip_addresses == known and rig.chart.other_urls() == []


def test_new_signal_names_are_capped(rig: Rig) -> None:
    known = len(signals)
    for n in range(3000):
        rig.raw(rig.event(f"NEW_{rig.mesh.word}_{n}"))
    rig.refused("signal", 3000 - limits.NEW_SIGNALS)
    assert len(signals) == known + limits.NEW_SIGNALS
    rig.still_hears()


def test_names_that_the_program_knows_count_for_nothing() -> None:
    names = SignalNames(most=1)
    signals.append("KNOWN_TO_THIS_PROGRAM")
    names.check("KNOWN_TO_THIS_PROGRAM")
    names.check("NEW_TO_THIS_PROGRAM")
    names.check("NEW_TO_THIS_PROGRAM")
    with pytest.raises(Exception, match="one more new signal"):
        names.check("ANOTHER_TO_THIS_PROGRAM")


def test_a_flood_is_bounded_and_later_messages_arrive(rig: Rig) -> None:
    rig.chart.nets.mesh  # noqa: B018 - there is nothing else to look at
    body = b"gAAAAA" + b"x" * 200
    for _ in range(20_000):
        rig.raw(body)
    rig.still_hears()
    counted = rig.chart.nets.counters["mesh_refused_not_authentic"]
    assert 0 < counted <= 20_000, "the broker's queue is bounded too, and lets the oldest go"


def test_a_hostile_line_is_counted_and_lines_go_on(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    rig.raw(pickle.dumps(Runs()), TRACE_EXCHANGE, TRACE_ROUTING_KEY)
    rig.raw(rig.sealed(pickle.dumps(Runs())), TRACE_EXCHANGE, TRACE_ROUTING_KEY)
    rig.raw(rig.sealed(pickle.dumps("[t] [gamma] \033[2Je->B() a->b\n")), TRACE_EXCHANGE, TRACE_ROUTING_KEY)
    shown = ""

    def line() -> bool:
        nonlocal shown
        shown += capfd.readouterr().out
        return "gamma" in shown

    wait_until(line)
    assert " [+t] [t] [\033[35mgamma\033[0m] [2Je->B() a->b\n" in shown
    counters = rig.chart.nets.counters
    assert (counters["trace_refused_not_authentic"], counters["trace_refused_malformed"]) == (1, 1)


def test_lines_and_events_cannot_pose_as_each_other(rig: Rig) -> None:
    rig.raw(rig.sealed(pickle.dumps("a line")))
    rig.refused("malformed")
    rig.raw(rig.event(), TRACE_EXCHANGE, TRACE_ROUTING_KEY)
    wait_until(lambda: rig.chart.nets.counters["trace_refused_malformed"] == 1)


def test_what_is_sent_is_what_an_old_program_reads(rig: Rig, rabbit_url: str) -> None:
    with channel_to(rabbit_url) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, MESH_EXCHANGE, f"{rig.mesh.word}.man")
        rig.chart.transmit(Event(signal=signals.B, payload={"a": "ä"}))
        got: list[Any] = []

        def arrived() -> bool:
            got[:] = channel.basic_get(queue, auto_ack=True)
            return got[2] is not None

        wait_until(arrived)
        sender, text = pickle.loads(rig.fernet.decrypt(got[2]))
    assert text == Event.dumps(Event(signal=signals.B, payload={"a": "ä"}))
    assert sender == rig.chart.lan.get_working_ip_address() and not sender.startswith("127.")
