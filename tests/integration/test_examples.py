"""The examples run as they stand, and the tutorial shows what they really are and print."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.testing import wait_until
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import AMPLE_S, SOURCES, clean_environment, end_by

EXAMPLES = SOURCES / "examples"
TUTORIAL = SOURCES / "docs" / "tutorial" / "first-cache.md"
QUOTED = re.compile(r"<!-- (examples/\S+\.py) -->\n```python\n(.*?)```\n", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```\n", re.DOTALL)
FOUND = re.compile(r"\['10\.0\.0\.2', '10\.0\.0\.7'\] in first_cache\.json: found, discovered [0-9.]+ s ago\n")


def run_example(name: str, directory: Path, **settings: str) -> str:
    """What the example prints, run in `directory`; it must succeed and say nothing on standard error."""
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=directory,
        env=clean_environment(directory, **settings),
        capture_output=True,
        text=True,
        timeout=AMPLE_S,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_statechart_discovers_once_for_a_restart_too(tmp_path: Path) -> None:
    first = run_example("statechart_cache.py", tmp_path)
    assert first.splitlines() == [
        "nothing young enough in the cache: discovering ...",
        "['10.0.0.2', '10.0.0.7'] in first_cache.json: discovered just now",
    ]
    discovered = read_cache(tmp_path / "first_cache.json").last_modified
    assert FOUND.fullmatch(run_example("statechart_cache.py", tmp_path))
    assert read_cache(tmp_path / "first_cache.json").last_modified == discovered


def test_statechart_discovers_again_after_the_result_expires(tmp_path: Path) -> None:
    with Cache(tmp_path / "first_cache.json") as cache:
        cache.write({"hosts": ["10.0.0.9"], "time_out_in_minutes": 0})
    assert "discovering" in run_example("statechart_cache.py", tmp_path)
    assert read_cache(tmp_path / "first_cache.json").dict["hosts"] == ["10.0.0.2", "10.0.0.7"]


def test_plain_program_shares_the_statecharts_cache(tmp_path: Path) -> None:
    assert "run statechart_cache.py first" in run_example("plain_client.py", tmp_path)
    run_example("statechart_cache.py", tmp_path)
    discovered = read_cache(tmp_path / "first_cache.json").last_modified
    for number in (1, 2):
        assert f"read by {number} so far\n" in run_example("plain_client.py", tmp_path)
    assert read_cache(tmp_path / "first_cache.json").last_modified == discovered


def test_lan_statechart_is_told_the_brokers(tmp_path: Path, rabbit_url: str) -> None:
    place = urlsplit(rabbit_url).netloc.rpartition("@")[2]
    settings = {"MIROS_CACHE_AMQP_URL": rabbit_url, "MIROS_CACHE_KEYS": generate_key().decode()}
    told = run_example("lan_statechart.py", tmp_path, MIROS_CACHE_DISCOVER=place, **settings)
    assert told == f"lan_chart found {place}\n"


def test_hosts_file_statechart_tells_good_ones_from_others(tmp_path: Path, rabbit_url: str) -> None:
    place = urlsplit(rabbit_url).netloc.rpartition("@")[2]
    (tmp_path / ".miros_rabbitmq_hosts.json").write_text(json.dumps({"hosts": [place]}))
    settings = {"MIROS_CACHE_AMQP_URL": rabbit_url, "MIROS_CACHE_KEYS": generate_key().decode()}
    told = run_example("hosts_file_statechart.py", tmp_path, **settings)
    assert f"{place}: yes\n" in told and told.endswith(f"man_net_chart found {place}\n")


def test_networked_statechart_shares_as_its_docstring_says(tmp_path: Path, rabbit_url: str) -> None:
    example = EXAMPLES / "networked_statechart.py"
    commands = re.findall(r"^    python networked_statechart\.py (.*)$", example.read_text(), re.MULTILINE)
    assert len(commands) == 2
    settings = {"MIROS_CACHE_AMQP_URL": rabbit_url, "MIROS_CACHE_KEYS": generate_key().decode()}
    with ExitStack() as stack:
        outputs = []
        for number, command in enumerate(commands):
            directory = tmp_path / str(number)
            directory.mkdir()
            outputs.append(directory / "out")
            process = subprocess.Popen(
                ["sh", "-c", f'exec "{sys.executable}" "{example}" {command}'],
                cwd=directory,
                env=clean_environment(directory, MIROS_CACHE_SCOPE="networked example", **settings),
                stdout=stack.enter_context(outputs[-1].open("w")),
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        for output in outputs:
            wait_until(lambda output=output: '"addresses": ["10.0.0.7"]' in output.read_text(), timeout_s=AMPLE_S)
            assert "Traceback" not in output.read_text()
        assert end_by(process, signal.SIGINT) == 0


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


def test_tutorial_commands_print_what_it_shows(tmp_path: Path, at_a_shell: dict[str, str]) -> None:
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
