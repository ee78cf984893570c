"""The examples run as they stand, and the tutorial shows what they really are and print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from miros_cache_net.cache import Cache, read_cache
from tests.cli_command import AMPLE_S, SOURCES, clean_environment

EXAMPLES = SOURCES / "examples"
TUTORIAL = SOURCES / "docs" / "tutorial" / "first-cache.md"
QUOTED = re.compile(r"<!-- (examples/\S+\.py) -->\n```python\n(.*?)```\n", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```\n", re.DOTALL)
FOUND = re.compile(r"\['10\.0\.0\.2', '10\.0\.0\.7'\] in first_cache\.json: found, discovered [0-9.]+ s ago\n")


def run_example(name: str, directory: Path) -> str:
    """What the example prints, run in `directory`; it must succeed and say nothing on standard error."""
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=directory,
        env=clean_environment(directory),
        capture_output=True,
        text=True,
        timeout=AMPLE_S,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_the_statechart_discovers_once_and_finds_the_result_after_a_restart(tmp_path: Path) -> None:
    first = run_example("statechart_cache.py", tmp_path)
    assert first.splitlines() == [
        "nothing young enough in the cache: discovering ...",
        "['10.0.0.2', '10.0.0.7'] in first_cache.json: discovered just now",
    ]
    discovered = read_cache(tmp_path / "first_cache.json").last_modified
    assert FOUND.fullmatch(run_example("statechart_cache.py", tmp_path))
    assert read_cache(tmp_path / "first_cache.json").last_modified == discovered


def test_the_statechart_discovers_again_once_the_result_has_expired(tmp_path: Path) -> None:
    with Cache(tmp_path / "first_cache.json") as cache:
        cache.write({"hosts": ["10.0.0.9"], "time_out_in_minutes": 0})
    assert "discovering" in run_example("statechart_cache.py", tmp_path)
    assert read_cache(tmp_path / "first_cache.json").dict["hosts"] == ["10.0.0.2", "10.0.0.7"]


def test_the_plain_program_shares_the_statecharts_cache_and_makes_it_no_younger(tmp_path: Path) -> None:
    assert "run statechart_cache.py first" in run_example("plain_client.py", tmp_path)
    run_example("statechart_cache.py", tmp_path)
    discovered = read_cache(tmp_path / "first_cache.json").last_modified
    for number in (1, 2):
        assert f"read by {number} so far\n" in run_example("plain_client.py", tmp_path)
    assert read_cache(tmp_path / "first_cache.json").last_modified == discovered


# --- the tutorial ---------------------------------------------------------------------------------


def test_the_tutorial_quotes_both_examples_as_they_are() -> None:
    quoted = dict(QUOTED.findall(TUTORIAL.read_text()))
    assert set(quoted) == {"examples/statechart_cache.py", "examples/plain_client.py"}
    for name, text in quoted.items():
        assert text == (SOURCES / name).read_text(), f"{name} has changed: quote it again"


@pytest.fixture
def at_a_shell(tmp_path: Path) -> dict[str, str]:
    """A directory with the examples, and `python` and `miros-cache-net` on the path."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, arguments in (("python", ""), ("miros-cache-net", "-m miros_cache_net ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    for name in ("statechart_cache.py", "plain_client.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    return clean_environment(tmp_path, PATH=f"{programs}:{os.environ['PATH']}")


def test_every_command_of_the_tutorial_prints_what_the_tutorial_shows(
    tmp_path: Path, at_a_shell: dict[str, str]
) -> None:
    lines = "".join(CONSOLE.findall(TUTORIAL.read_text()))
    steps = [step.partition("\n")[::2] for step in re.split(r"^\$ ", lines, flags=re.MULTILINE)[1:]]
    assert len(steps) == 9
    for command, shown in steps:
        finished = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=at_a_shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=AMPLE_S,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout
        expected = "[^\n]*".join(re.escape(part) for part in shown.split("..."))
        assert re.fullmatch(expected, finished.stdout), f"$ {command}\n{finished.stdout}\n--- shown:\n{shown}"
