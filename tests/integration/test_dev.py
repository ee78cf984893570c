"""``miros-cache-net dev``, run as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from miros_cache_net.cache import read_cache
from miros_cache_net.testing import wait_until
from tests.cli_command import AMPLE_S, COMMAND, SOURCES, clean_environment, error_line, run
from tests.docs.pages import blocks_of
from tests.integration.test_demo import leftovers

PAGE = SOURCES / "docs" / "tutorial" / "first-fleet.md"


@contextmanager
def fleet(directory: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Path]]:
    """The command while it runs, what it says of its fleet, and what it tells meanwhile."""
    temporary, told = directory / "temporary", directory / "told"
    temporary.mkdir()
    environment = clean_environment(directory, TMPDIR=str(temporary), MIROS_CACHE_SCOPE="not this one")
    with open(told, "w") as errors:
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--json"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, told.read_text()
        yield process, json.loads(line), told
    finally:
        process.kill()
        process.communicate()
        wait_until(lambda: not leftovers(temporary), timeout_s=AMPLE_S, what="every process of it to be gone")
        wait_until(lambda: not list(temporary.iterdir()), timeout_s=AMPLE_S, what="its directory to be gone")


def test_the_tutorials_commands_do_what_it_says(tmp_path: Path) -> None:
    (start,), *others = (block.commands for block in blocks_of(PAGE) if block.language == "sh")
    with fleet(tmp_path, *start.split()[1:]) as (process, made, told):
        names = [host["name"] for host in made["hosts"]]
        assert names == ["alpha", "beta", "gamma"]
        script = "\n".join(["set -e", *(command for block in others for command in block)])
        program = tmp_path / "miros-cache-net"
        program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        program.chmod(0o755)
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=tmp_path,
            env=clean_environment(
                tmp_path, MIROS_CACHE_CONFIG=made["hosts"][0]["config"], PATH=f"{tmp_path}:/usr/bin:/bin"
            ),
            capture_output=True,
            text=True,
            timeout=AMPLE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for host in made["hosts"]:
            wait_until(lambda host=host: read_cache(host["file"]).dict.get("note") == "hello", timeout_s=AMPLE_S)
        assert len({read_cache(host["file"]).version for host in made["hosts"]}) == 1
        assert told.read_text().count("discovering: asking 1 host") == 1, "more than one has discovered"
        process.send_signal(signal.SIGINT)
        assert process.wait(AMPLE_S) == 0
    assert "Traceback" not in told.read_text()


def test_nothing_outlives_a_dev_that_is_killed(tmp_path: Path) -> None:
    with fleet(tmp_path, "dev", "-n", "1") as (process, _made, _told):
        process.kill()


def test_without_rabbitmq_it_says_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path, "dev", PATH="/nonexistent")
    assert done.returncode == 3
    assert "apt-get install rabbitmq-server" in error_line(done)


def test_a_count_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for count in ("0", "25", "three"):
        done = run(tmp_path, "dev", "-n", count)
        assert done.returncode == 2
        assert "--hosts" in error_line(done)
