"""The networked examples on the real old package, one import line changed, beside the same on the adapter."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.cli_command import SOURCES
from tests.mesh.conftest import Lan
from tests.mesh.herd import as_an_old_program
from tests.mesh.old_package import MeshHost, Program

EXAMPLES = SOURCES / "examples"
#: What each prints of the chart of that name, its own and another's.
FIREFLY = ("networked_factory.py", "[\033[34m{}\033[0m] ", "[\033[35m{}\033[0m] ")
SENTRY = ("networked_active_object.py", " [+s] \033[34m{}\033[0m ", " [+s] \033[35m{} \033[0mALARM:watching")
SHIP = ("networked_ships.py", " [+s] {} hail_all:sailing", "# {} is at [")
#: Longer than any of them takes to be heard, but for starts that miss their discovery.
HEARD_IN_S = 12.0


def old(host: MeshHost, program: Path, name: str, own: str) -> Program:
    def hears_itself(started: Program) -> bool:
        return any(own.format(name) in line for line in [*started.lines])

    return host.start_old(program, name, "120", works=hears_itself, within_s=HEARD_IN_S)


@pytest.mark.parametrize(
    ("example", "own", "other"), [FIREFLY, SENTRY, SHIP], ids=["factory", "active-object", "ships"]
)
def test_an_example_shows_the_same_on_both_packages(
    warm_lan: Lan, tmp_path: Path, example: str, own: str, other: str
) -> None:
    here, there = warm_lan
    unchanged = as_an_old_program(example, tmp_path)
    alpha = old(here, unchanged, "alpha", own)
    beta = old(there, unchanged, "beta", own)
    gamma = there.start(sys.executable, EXAMPLES / example, "gamma", "120")
    herd = {"alpha": alpha, "beta": beta, "gamma": gamma}
    for name, program in herd.items():
        program.shows(own.format(name))
        for another in herd.keys() - {name}:
            program.shows(other.format(another))
    # an old one takes whom it knows for one until it has sent something itself, which does no harm
    aliens = re.findall(r"Alien!: (\S+)", "\n".join([*alpha.lines, *beta.lines]))
    assert set(aliens) <= {host.address for host in warm_lan}
