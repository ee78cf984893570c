"""A fleet of three hosts and programs of the real old package: writes, reads and changes, and who speaks."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_cache_net.mesh.topology import MESH_EXCHANGE
from miros_cache_net.testing import wait_until
from miros_cache_net.wire.pickled import load_pair
from tests.integration.rabbit_links import channel_to
from tests.mesh.conftest import Lan
from tests.mesh.fleet_on_lan import FleetOnLan
from tests.mesh.old_package import LAN_FILE, OLD, PASSWORD, PEER, USER, MeshHost, Program
from tests.mesh.test_mixed_mesh import exchange, in_touch, nobody_is_taken_for_an_alien


def told(program: Program) -> list[object]:
    """The contents of each ``CACHE`` that its handler got."""
    return [fact["cache"] for fact in program.facts("cache")]


def is_told(program: Program, contents: object) -> None:
    wait_until(lambda: contents in told(program), 60, f"{contents} to be told")


@pytest.fixture
def fleet(warm_lan: Lan, bare_host: MeshHost) -> FleetOnLan:
    made = FleetOnLan((*warm_lan, bare_host))
    made.speaker()
    return made


@pytest.fixture
def old(warm_lan: Lan, fleet: FleetOnLan) -> Iterator[tuple[Program, Program]]:
    """An old program on each of the two hosts with a broker; none of them goes deaf."""
    here, there = warm_lan[0].old_peer("old-1"), warm_lan[1].old_peer("old-2")
    in_touch(here, there)
    yield here, there
    nobody_is_taken_for_an_alien(here, there)
    exchange(here, there, payload="still here")
    exchange(there, here, payload="here too")


def test_old_programs_write_lands_in_every_cache(fleet: FleetOnLan, old: tuple[Program, Program]) -> None:
    for number, program in enumerate(old):
        contents = {"by": program.lines[0], "number": number, "ä": [None, 1.5, {"deep": []}]}
        program.tell("send", "CACHE_FILE_WRITE", contents)
        fleet.holds(contents)
    here, there = old
    for program in old:
        program.tell("send", "CACHE_FILE_READ")
        is_told(program, contents)
    assert set(map(str, told(here) + told(there))) == {str(contents)}


def test_change_of_any_host_is_told_once(fleet: FleetOnLan, old: tuple[Program, Program]) -> None:
    for number, name in enumerate(fleet.nodes):
        fleet.command(name, "update", f"key={number}", f"from={name!r}".replace("'", '"'))
        for program in old:
            is_told(program, {"key": number, "from": name})
    for program in old:
        assert [each["key"] for each in told(program)] == [0, 1, 2]  # type: ignore[index]


def test_p_q_p_ends_as_p_without_echo(fleet: FleetOnLan, old: tuple[Program, Program]) -> None:
    here, there = old
    for contents in ({"v": "P"}, {"v": "Q"}, {"v": "P"}):
        here.tell("send", "CACHE_FILE_WRITE", contents)
    fleet.holds({"v": "P"})
    fleet.command("gamma", "update", "end=true")
    for program in old:
        is_told(program, {"v": "P", "end": True})
        assert told(program) == [{"v": "P", "end": True}]
    assert here.process.poll() is None is there.process.poll()


def test_writes_from_both_sides_end_alike(fleet: FleetOnLan, old: tuple[Program, Program]) -> None:
    for number in range(8):
        old[number % 2].tell("send", "CACHE_FILE_WRITE", {"old": number})
        fleet.command(("beta", "gamma")[number % 2], "update", f"new={number}")

    def alike() -> bool:
        held = [fleet.contents(name) for name in fleet.nodes]
        # which of them is the last one, only the broker knows
        return held[0] == held[1] == held[2] and all(told(program)[-1:] == held[:1] for program in old)

    wait_until(alike, 60, "all hosts to hold the same, and the old programs to be told it")


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_another_host_takes_over_and_repeats_nothing(
    fleet: FleetOnLan, old: tuple[Program, Program], by: signal.Signals
) -> None:
    fleet.command("alpha", "update", "before=true")
    for program in old:
        is_told(program, {"before": True})
    fleet.end(fleet.speaker(), by)
    for number in range(10):
        old[0].tell("send", "CACHE_FILE_WRITE", {"number": number})
    fleet.holds({"number": 9})
    fleet.command(next(iter(fleet.nodes)), "update", "after=true")
    for program in old:
        is_told(program, {"number": 9, "after": True})
        assert told(program) == [{"before": True}, {"number": 9, "after": True}]


def test_host_that_is_cut_off_is_replaced_and_catches_up(fleet: FleetOnLan, warm_lan: Lan) -> None:
    here, there = warm_lan
    old = here.old_peer("old-1")
    # the broker's own host stays
    for name in ("alpha", "beta"):
        if fleet.speaker() != "gamma":
            fleet.end(name, signal.SIGTERM)
            fleet.start(name)
    cut = fleet.host(fleet.speaker())
    assert cut not in (here, there)
    cut.network.unplug()
    for number in range(5):
        old.tell("send", "CACHE_FILE_WRITE", {"number": number})
    fleet.holds({"number": 4}, "alpha", "beta")
    cut.network.plug_in()
    fleet.holds({"number": 4})
    fleet.command("beta", "update", "after=true")
    is_told(old, {"number": 4, "after": True})
    assert told(old) == [{"number": 4, "after": True}]
    nobody_is_taken_for_an_alien(old)


def test_three_kinds_share_events_lines_and_state(fleet: FleetOnLan, warm_lan: Lan, bare_host: MeshHost) -> None:
    here, there = warm_lan
    keys = ("mesh", "", "trace", "spy")
    old, new = here.old_peer("old-1", *keys), there.new_peer("new-1", *keys)
    bare = bare_host.new_peer("new-2", *keys, MIROS_CACHE_AMQP_URL=f"amqp://{here.address}")
    for sender in (old, new, bare):
        in_touch(sender, *({old, new, bare} - {sender}))
    exchange(old, new, bare, payload={"from": "old"})
    exchange(bare, old, new, payload={"from": "bare"})
    old.tell("move")
    for each in (new, bare):
        each.shows(lambda line: "old-1\033[0m] e->MOVE()" in line)
        each.shows(lambda line: "old-1 \033[0mENTRY_SIGNAL:moved" in line)
    new.tell("send", "CACHE_FILE_WRITE", {"by": "new-1"})
    fleet.holds({"by": "new-1"})
    fleet.command("beta", "update", "more=1")
    for each in (old, new, bare):
        is_told(each, {"by": "new-1", "more": 1})
        assert len(told(each)) == 1
    nobody_is_taken_for_an_alien(old)


def test_old_program_uses_the_speakers_young_lan_file(warm_lan: Lan, tmp_path: Path) -> None:
    for host in warm_lan:
        host.old_peer("any")
        (host.directory / LAN_FILE).unlink()
    tools, scanned = tools_that_tell(tmp_path)
    cold = warm_lan[0].start_old(PEER, OLD, "cold", "mesh", "mesh", works=lambda _: scanned.exists(), PATH=tools)
    cold.kill()
    scanned.unlink()
    (warm_lan[0].directory / LAN_FILE).unlink(missing_ok=True)
    fleet = FleetOnLan(warm_lan)
    host = fleet.host(fleet.speaker())
    file = host.directory / LAN_FILE
    addresses = sorted(each.address for each in warm_lan)
    wait_until(lambda: sorted(json.loads(file.read_text())["addresses"]) == addresses, 60, "all brokers in its file")
    written = file.read_bytes()
    assert PASSWORD.encode() not in written
    host.old_peer("young", PATH=tools)
    assert not scanned.exists() and file.read_bytes() == written, "it has discovered for itself"


def tools_that_tell(directory: Path) -> tuple[str, Path]:
    """A PATH where `ping` and `arp`, with which the old package scans, leave a file behind; and that file."""
    scanned = directory / "scanned"
    for name in ("ping", "arp"):
        (directory / name).write_text(f"#!/bin/sh\n: > '{scanned}'\n")
        (directory / name).chmod(0o755)
    return f"{directory}:{os.environ['PATH']}", scanned


FORWARDER = """
import sys
from miros_cache_net.testing import TcpForwarder
way = TcpForwarder(5672, host=sys.argv[1])
way.port = int(sys.argv[2])
with way:
    print("forwards", flush=True)
    sys.stdin.read()
"""


def test_translated_port_makes_nobody_deaf(warm_lan: Lan, bare_host: MeshHost) -> None:
    here, there = warm_lan
    old = (here.old_peer("old-1"), there.old_peer("old-2"))
    in_touch(*old)
    # its addresses have no port, so our programs would dial them at 5673
    (there.directory / LAN_FILE).unlink()
    for host in (bare_host, there):
        host.start(sys.executable, "-c", FORWARDER, here.address, "5673").shows("forwards")
    fleet = FleetOnLan(
        (bare_host, there),
        MIROS_CACHE_AMQP_URL="amqp://127.0.0.1:5673",
        MIROS_CACHE_DISCOVER=f"{there.address}:5672",
        MIROS_CACHE_MESH_SENDER=here.address,
    )
    with senders_at(here) as senders:
        for number in (1, 2):
            fleet.speaker()
            # the nodes keep what they discover in the same document
            fleet.command(next(iter(fleet.nodes)), "update", f"told={number}")
            for program in old:
                wait_until(
                    lambda program=program, number=number: has(told(program), "told", number), 60, "it to be told"
                )
            if len(fleet.nodes) > 1:
                fleet.end(fleet.speaker(), signal.SIGKILL)
        assert set(senders("CACHE")) == {here.address}
    nobody_is_taken_for_an_alien(*old)
    (name,) = fleet.nodes
    for number, program in enumerate(old):
        program.tell("send", "CACHE_FILE_WRITE", {"by": number})
        wait_until(lambda number=number: has([fleet.contents(name)], "by", number), 60, "its write")
    exchange(*old, payload="still here")
    exchange(*reversed(old), payload="here too")


def has(contents: list[Any], key: str, value: object) -> bool:
    return any(each.get(key) == value for each in contents)


@contextmanager
def senders_at(host: MeshHost) -> Iterator[Callable[[str], list[str]]]:
    """Listens at that host's broker; gives the sender of each event of a name that came."""
    key = Fernet(host.old_environment["MESH_ENCRYPTION_KEY"])
    with channel_to(f"amqp://{USER}:{PASSWORD}@{host.address}/%2F?heartbeat=0") as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, MESH_EXCHANGE, "#")

        def senders(name: str) -> list[str]:
            bodies = iter(lambda: channel.basic_get(queue, auto_ack=True)[2], None)
            pairs = [load_pair(key.decrypt(body)) for body in bodies]
            return [sender for sender, text in pairs if json.loads(text)["signal_name"] == name]

        yield senders
