"""Every command of the how-to of Docker Compose works as it is typed, in the order of the page.

They are typed with Debian bookworm's generation: RabbitMQ 3.10, Python 3.11, this machine's Compose.
`test_compose.py` runs trixie's.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import wait_until
from tests.cluster.compose_project import ROOT, UP_S, generation, run
from tests.docs.pages import blocks_of

pytestmark = [pytest.mark.compose, pytest.mark.slow]

PAGE: Final = ROOT / "docs" / "how-to" / "docker-compose.md"
#: Runs in the foreground.
LASTING: Final = "docker compose up --build"
#: tests/cluster/test_compose_overrides.py runs them all together.
OVERRIDDEN: Final = re.compile(r"(BROKERS=\S+ )?docker compose -f docker-compose.yml -f ")
#: The older program where Compose is no plugin of this machine's engine.
DOCKER: Final = """#!/bin/sh
if [ "$1" = compose ]; then shift; exec {compose} "$@"; fi
exec {docker} "$@"
"""


class Typist:
    """A terminal in a copy of the sources, whose directory names the project."""

    def __init__(self, directory: Path) -> None:
        self.sources = directory / f"page-{secrets.token_hex(4)}"
        shutil.copytree(ROOT, self.sources, ignore=shutil.ignore_patterns(".git", ".venv*", "tests", "docs", ".*cache"))
        (self.sources / "my-keys").write_bytes(generate_key() + b"\n")
        docker = directory / "docker"
        tool, images = generation("bookworm")
        # what the page calls by its default name
        images = {**images, "NODE_IMAGE": "miros-cache-net"}
        docker.write_text(DOCKER.format(compose=" ".join(tool), docker=shutil.which("docker")))
        docker.chmod(0o755)
        path = f"{directory}:{os.environ['PATH']}"
        self.environment = {**os.environ, **images, "PATH": path}

    def command(self, command: str) -> list[str]:
        """With a terminal, which `exec` asks for."""
        return ["script", "--quiet", "--return", "--command", command, "/dev/null"]

    def type(self, command: str) -> None:
        done = subprocess.run(
            self.command(command),
            cwd=self.sources,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UP_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"

    def type_and_interrupt(self, command: str) -> None:
        process = subprocess.Popen(command.split(), cwd=self.sources, env=self.environment, stdout=subprocess.DEVNULL)
        try:
            wait_until(self.all_are_healthy, timeout_s=UP_S, what=f"{command} to have started everything")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(UP_S)

    def all_are_healthy(self) -> bool:
        label = f"label=com.docker.compose.project={self.sources.name}"
        ids = run(["docker", "ps", "-q", "--filter", label]).stdout.split()
        states = json.loads(run(["docker", "inspect", *ids]).stdout) if ids else []
        healths = [each["State"]["Health"]["Status"] for each in states if "Health" in each["State"]]
        return len(healths) >= 4 and set(healths) == {"healthy"}

    def with_key_ids(self, command: str) -> str:
        """What a reader types for NEW-ID and OLD-ID: in either case the key that does not encrypt."""
        if not re.search("NEW-ID|OLD-ID", command):
            return command
        shown = subprocess.run(
            ["docker", "compose", "exec", "-T", "alpha", "miros-cache-net", "key", "list", "--json"],
            cwd=self.sources,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=UP_S,
            check=True,
        )
        (_, other) = json.loads(shown.stdout)
        return re.sub("NEW-ID|OLD-ID", other["key_id"], command)


@pytest.fixture
def typist(tmp_path: Path) -> Iterator[Typist]:
    faulthandler.cancel_dump_traceback_later()
    typist = Typist(tmp_path)
    yield typist
    typist.type("docker compose down --volumes")


def test_every_command_of_the_page_works_as_typed(typist: Typist) -> None:
    shown = [command for block in blocks_of(PAGE) if not block.language for command in block.commands]
    commands = [command for command in shown if not OVERRIDDEN.match(command)]
    assert len(commands) > 10
    for number, command in enumerate(commands):
        if " exec " in command and not one_is_killed(commands[:number]):
            wait_until(typist.all_are_healthy, timeout_s=UP_S, what="every host to be healthy")
        if command == LASTING:
            typist.type_and_interrupt(command)
        else:
            typist.type(typist.with_key_ids(command))


def one_is_killed(commands: list[str]) -> bool:
    """Whether these have killed a host, and not started it again."""
    return sum(" kill " in each for each in commands) > sum(" start " in each for each in commands)
