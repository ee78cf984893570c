"""A fleet of three hosts and programs of the real old package: writes, reads and changes, and who speaks."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from miros_cache_net.testing import wait_until
from tests.mesh.conftest import Lan
from tests.mesh.fleet_on_lan import FleetOnLan
from tests.mesh.old_package import LAN_FILE, PASSWORD, MeshHost, Program
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


def test_old_program_uses_the_speakers_young_lan_file(warm_lan: Lan) -> None:
    for host in warm_lan:
        host.old_peer("any")
        (host.directory / LAN_FILE).unlink()
    fleet = FleetOnLan(warm_lan)
    host = fleet.host(fleet.speaker())
    file = host.directory / LAN_FILE
    addresses = sorted(each.address for each in warm_lan)
    wait_until(lambda: sorted(json.loads(file.read_text())["addresses"]) == addresses, 60, "all brokers in its file")
    written = file.read_bytes()
    assert PASSWORD.encode() not in written
    host.old_peer("young")
    assert file.read_bytes() == written, "it has discovered for itself"
