"""The networked examples as herds of processes, on the adapter and unchanged under `run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import RabbitServer, wait_until
from tests.cli_command import AMPLE_S, COMMAND, clean_environment, end_by
from tests.mesh.herd import Herd, as_an_old_program, commands

NAMES = ("alpha", "beta", "gamma")
OTHERS = "\033[35m"
OWN = "\033[34m"


@pytest.fixture
def herd(tmp_path: Path, rabbit_server: RabbitServer, rabbit_url: str) -> Iterator[Herd]:
    with Herd(tmp_path, rabbit_server.port) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["adapter", "unchanged"])
def unchanged(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def started(herd: Herd, example: str, directory: Path, unchanged: bool, *more: str) -> None:
    command = commands(example, directory, unchanged=unchanged)
    for name in NAMES:
        herd.start(name, *command, name, *more)


def shows(herd: Herd, name: str, *texts: str) -> None:
    wait_until(lambda: all(text in herd.output(name) for text in texts), 2 * AMPLE_S, f"{texts} from {name}")
    assert "Traceback" not in herd.output(name)


def test_fireflies_light_up_together(herd: Herd, tmp_path: Path, unchanged: bool) -> None:
    started(herd, "networked_factory.py", tmp_path, unchanged)
    for name in NAMES:
        others = [f"[{OTHERS}{other}\033[0m] " for other in NAMES if other != name]
        shows(herd, name, f"[{OWN}{name}\033[0m] ", *others)
    wait_until(lambda: any("was first" in herd.output(name) for name in NAMES), AMPLE_S)
    assert all(line.startswith(" [+t] [") for line in herd.output("alpha").splitlines())


def test_sentries_raise_the_alarm_and_say_where_they_are(herd: Herd, tmp_path: Path, unchanged: bool) -> None:
    started(herd, "networked_active_object.py", tmp_path, unchanged)
    for name in NAMES:
        others = [f" [+s] {OTHERS}{other} \033[0mALARM:watching" for other in NAMES if other != name]
        wait_until(lambda name=name, others=others: any(each in herd.output(name) for each in others), 2 * AMPLE_S)
        shows(herd, name, f" [+s] {OWN}{name}\033[0m ", "# amqp://guest:***@")
    assert all(line.startswith((" [+t] ", " [+s] ")) for line in herd.output("alpha").splitlines())


def test_ships_with_three_keys_answer_each_other(herd: Herd, tmp_path: Path, unchanged: bool) -> None:
    started(herd, "networked_ships.py", tmp_path, unchanged)
    for name in NAMES:
        for other in NAMES:
            if other != name:
                shows(herd, name, f"[{name}] # {other} is at [", f" [+s] {other} ")
    assert "\033" not in herd.output("alpha")


def test_an_example_ends_by_itself_and_on_a_signal(herd: Herd, tmp_path: Path) -> None:
    command = commands("networked_factory.py", tmp_path, unchanged=True)
    soon = herd.start("soon", *command, "soon", "0.5")
    interrupted = herd.start("interrupted", *command, "interrupted")
    assert soon.wait(AMPLE_S) == 0
    shows(herd, "interrupted", OWN)
    assert end_by(interrupted, signal.SIGINT) in (1, -signal.SIGINT, 130)


# --- `run` itself -------------------------------------------------------------------------------------------


def run(
    directory: Path, *arguments: str, before: tuple[str, ...], **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *arguments],
        cwd=directory,
        env=clean_environment(directory, **environment),
        capture_output=True,
        text=True,
        timeout=AMPLE_S,
        check=False,
    )


MODULE = (sys.executable, "-m", "miros_cache_net.mesh")
BOTH = pytest.mark.parametrize("before", [MODULE, (*COMMAND, "run")], ids=["module", "command"])


@BOTH
def test_a_program_runs_as_it_does_without_us(tmp_path: Path, before: tuple[str, ...]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside.py").write_text("word = 'beside'")
    program = tmp_path / "sub" / "program.py"
    program.write_text(
        "import sys, os, beside, subprocess\n"
        "from miros_rabbitmq import NetworkedFactory, NetworkedActiveObject, CacheFileChart\n"
        "from miros_rabbitmq.network import NetworkedFactory as same, LanChart\n"
        "from miros_rabbitmq.cache import CacheFileChart as chart\n"
        "assert same is NetworkedFactory and chart is CacheFileChart and __name__ == '__main__'\n"
        "print(sys.argv, beside.word, os.environ.get('MESH_ENCRYPTION_KEY'), os.environ.get('MIROS_CACHE_SITE'))\n"
        "if 'child' not in sys.argv: subprocess.run([sys.executable, __file__, 'child'], check=True)\n"
        "sys.exit(7)\n"
    )
    (tmp_path / ".env").write_text("MESH_ENCRYPTION_KEY=from-the-file\nMIROS_CACHE_SITE=lab\n")
    (tmp_path / ".env").chmod(0o600)
    ran = run(tmp_path, "sub/program.py", "-x", "--help", "a b", before=before)
    assert sorted(ran.stdout.splitlines()) == [
        f"['{program}', 'child'] beside from-the-file None",
        "['sub/program.py', '-x', '--help', 'a b'] beside from-the-file None",
    ], ran.stderr
    # the child's own exit code 7 is an error of its parent
    assert ran.returncode == 1 and "returned non-zero exit status 7" in ran.stderr


@BOTH
def test_a_program_that_is_not_there_is_one_line(tmp_path: Path, before: tuple[str, ...]) -> None:
    ran = run(tmp_path, "absent.py", before=before)
    assert ran.returncode == 2 and "absent.py" in ran.stderr and ran.stderr.count("\n") == 1


def test_what_was_dropped_says_what_there_is_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("from miros_rabbitmq.network import LocalAreaNetwork")
    ran = run(tmp_path, "program.py", before=MODULE)
    assert "ImportError: miros_rabbitmq.network.LocalAreaNetwork is not there" in ran.stderr
    assert "a chart's `lan`" in ran.stderr


def test_help_tells_how_it_is_used(tmp_path: Path) -> None:
    assert run(tmp_path, "--help", before=MODULE).stdout.startswith("usage: python -m miros_cache_net.mesh PROGRAM")
    assert run(tmp_path, before=MODULE).returncode == 2


def test_the_change_to_a_program_is_one_line(tmp_path: Path) -> None:
    for example in ("networked_factory.py", "networked_active_object.py", "networked_ships.py"):
        ours = (Path(__file__).parents[2] / "examples" / example).read_text().splitlines()
        old = as_an_old_program(example, tmp_path).read_text().splitlines()
        assert sum(one != other for one, other in zip(ours, old, strict=True)) == 1


def test_the_mesh_imports_without_old_package_or_compiler() -> None:
    hide = "import sys; sys.modules['miros_rabbitmq'] = sys.modules['netifaces'] = sys.modules['pickle'] = None\n"
    tell = "print('pickle' in sys.modules and sys.modules['pickle'])"
    program = f"{hide}import miros_cache_net.mesh; from miros_cache_net.wire import mesh; {tell}"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert ran.stdout == "None\n", ran.stderr
