"""Programs on the adapter and programs of the real old package in one mesh."""

from __future__ import annotations

import re

import pytest

from miros_cache_net.testing import wait_until
from tests.mesh.conftest import Lan
from tests.mesh.old_package import MeshHost, Program

ALIEN = "Alien!"


def exchange(sender: Program, *others: Program, payload: object) -> None:
    """All the others hear what `sender` transmits."""
    heard = [len(each.heard()) for each in others]
    sender.tell("transmit", payload)
    for each, before in zip(others, heard, strict=True):
        assert each.hears(payload, before), f"{payload!r} does not come: {each.lines[-12:]}"


def in_touch(sender: Program, *others: Program) -> None:
    """Until all have heard it: who has just started may still be on the way to a broker."""
    for number in range(100):
        mark = f"in touch {id(sender)} {number}"
        sender.tell("transmit", mark)
        if all(each.hears(mark, timeout_s=0.3) for each in others):
            return
    raise AssertionError(f"not all hear it; they end with {[each.lines[-6:] for each in others]}")


def nobody_is_taken_for_an_alien(*old: Program) -> None:
    """What makes an old program deaf and mute for good."""
    for each in old:
        assert not any(ALIEN in line for line in each.lines), each.lines[-20:]


def test_both_kinds_hear_each_other(mixed: tuple[Program, ...]) -> None:
    old, new, old_beside_new, _ = mixed
    for payload in ({"t": 21.5, "ä": [None, True]}, "text", 7, None, ["nested", {"deep": []}]):
        for sender in (old, new):
            exchange(sender, *(each for each in mixed if each is not sender), payload=payload)
    nobody_is_taken_for_an_alien(old, old_beside_new)


def test_both_kinds_print_what_the_other_does(mixed: tuple[Program, ...]) -> None:
    old, new, old_beside_new, new_beside_old = mixed
    for mover, name, others in ((old, "old-1", (new, new_beside_old)), (new, "new-1", (old, old_beside_new))):
        mover.tell("move")
        mover.tell("scribble", f"from {name}")
        for each in others:
            traced = each.shows(lambda line, name=name: f"{name}\033[0m] e->MOVE()" in line)
            assert re.search(
                rf" \[\+t\] \[[-0-9 :.]+\] \[\033\[35m{name}\033\[0m\] e->MOVE\(\) listening->moved", traced
            )
            spied = each.shows(lambda line, name=name: f"{name} \033[0mENTRY_SIGNAL:moved" in line)
            assert f" [+s] \033[35m{name} \033[0mENTRY_SIGNAL:moved" in spied
            assert f"[\033[35m{name}\033[0m] \033[30;1m# from {name}\033[0m" in each.shows(f"# from {name}")
    for mover, name in ((old, "old-1"), (new, "new-1")):
        mover.shows(lambda line, name=name: f"[+s] \033[34m{name}\033[0m INIT_SIGNAL:moved" in line)
    wait_until(lambda: len(spy_of(old, "old-1")) == 5 == len(spy_of(new, "new-1")))
    assert spy_of(old, "old-1")[:4] == spy_of(new, "new-1")[:4]
    nobody_is_taken_for_an_alien(old, old_beside_new)


def spy_of(program: Program, name: str) -> list[str]:
    """What a program prints of its own way from MOVE to rest; the old package may print two lines into one."""
    lines = re.findall(rf"\[\+s\] \033\[34m{name}\033\[0m (.*?)(?= \[\+|\n)", "\n".join([*program.lines, ""]))
    begin = lines.index("MOVE:listening")
    return lines[begin : begin + 5]


@pytest.fixture
def mixed(warm_lan: Lan) -> tuple[Program, ...]:
    """An old and a new program, on different hosts, and one of the other kind beside each."""
    here, there = warm_lan
    keys = ("mesh", "", "trace", "spy")
    old, old_beside_new = here.old_peer("old-1", *keys), there.old_peer("old-2", *keys)
    new, new_beside_old = there.new_peer("new-1", *keys), here.new_peer("new-2", *keys)
    programs = (old, new, old_beside_new, new_beside_old)
    for sender in programs:
        in_touch(sender, *(each for each in programs if each is not sender))
    return programs


def test_old_programs_accept_a_host_without_a_broker(warm_lan: Lan, bare_host: MeshHost) -> None:
    here, there = warm_lan
    alpha, beta = here.old_peer("alpha"), there.old_peer("beta")
    gamma = bare_host.new_peer("gamma", MIROS_CACHE_AMQP_URL=f"amqp://{here.address}")
    in_touch(gamma, alpha)
    in_touch(alpha, beta, gamma)
    in_touch(beta, alpha)
    nobody_is_taken_for_an_alien(alpha, beta)


def test_old_programs_outlive_many_short_lives_of_new_ones(warm_lan: Lan) -> None:
    here, there = warm_lan
    alpha, beta = here.old_peer("alpha"), there.old_peer("beta")
    for number in range(4):
        brief = (here, there)[number % 2].new_peer(f"brief-{number}")
        in_touch(brief, alpha, beta)
        if number % 2:
            brief.kill()
        else:
            assert brief.end() == 0
    exchange(alpha, beta, payload="still here")
    exchange(beta, alpha, payload="here too")
    nobody_is_taken_for_an_alien(alpha, beta)


def test_routing_patterns_part_what_both_kinds_hear(warm_lan: Lan) -> None:
    here, there = warm_lan
    old = here.old_peer("old", "red.heart", "red.*")
    new = there.new_peer("new", "red.cross", "red.*")
    blue = there.new_peer("blue", "blue.sky", "blue.*")
    in_touch(old, new)
    in_touch(new, old)
    blue.tell("transmit", "of blue")
    exchange(old, new, payload="after blue")
    assert "of blue" not in (*old.heard(), *new.heard())
    assert not blue.heard()
