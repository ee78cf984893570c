"""The rig: programs of the real old package talk to each other on it."""

from __future__ import annotations

from tests.mesh.conftest import Lan


def test_old_programs_of_two_hosts_hear_each_other(warm_lan: Lan) -> None:
    alpha, beta = (
        host.old_peer(name, f"mesh.{name}", "mesh.#") for host, name in zip(warm_lan, ("alpha", "beta"), strict=True)
    )
    alpha.tell("transmit", {"temperature": 21.5})
    assert beta.fact("heard")["heard"] == {"temperature": 21.5}
    beta.tell("transmit", ["of", "beta"])
    assert alpha.fact("heard", 2)["heard"] == ["of", "beta"]
    assert alpha.heard()[0] == {"temperature": 21.5}, "it hears its own events too"


def test_old_programs_print_what_other_hosts_do(warm_lan: Lan) -> None:
    here, there = warm_lan
    alpha = here.old_peer("alpha", "mesh", "", "trace", "spy")
    beta = there.old_peer("beta", "mesh", "", "trace", "spy")
    alpha.tell("move")
    alpha.tell("scribble", "from alpha")
    line = beta.shows("e->MOVE() listening->moved")
    assert " [+t] [" in line and "] [\033[35malpha\033[0m] e->MOVE()" in line
    assert " [+s] \033[35malpha \033[0mENTRY_SIGNAL:moved" in beta.shows("ENTRY_SIGNAL:moved")
    assert "\033[30;1m# from alpha\033[0m" in beta.shows("# from alpha")
    assert "] [\033[34malpha\033[0m] e->MOVE()" in alpha.shows("e->MOVE()"), "its own name is blue"
