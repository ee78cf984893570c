"""What a page shows to be typed: its blocks of code, and a shell in which they are run one after the other."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from miros_cache_net.testing import wait_until
from tests.cli_command import AMPLE_S, SOURCES, clean_environment, end_by

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Commands that run until a signal, and what they say once they run.
LASTING = {"miros-cache-net node": "in step with the fleet", "miros-cache-net view": "shows the fleet"}
SHELL = ("sh", "console")


class Block(NamedTuple):
    """One fenced block: its language ("": none), its text, and the line of the page on which it begins."""

    language: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """Of a shell's block: what is typed, without what is shown."""
        lines = self.text.splitlines()
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] if "$ " in self.text else lines
        return [line for line in typed if line]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(found[1], found[2], text[: found.start()].count("\n") + 1) for found in _BLOCK.finditer(text)]


class Shell:
    """A directory where what a page shows is typed; `place` comes before each command: where its process runs.

    Variables and the directory stay from one command to the next, as in a shell.
    """

    def __init__(self, directory: Path, place: Sequence[str], settings: Mapping[str, str]) -> None:
        self.directory = directory
        self._place = list(place)
        self._state = directory / "state"
        self._state.write_text(f"cd {directory}\n")
        programs = directory / "programs"
        programs.mkdir()
        for name, arguments in (("python", ""), ("miros-cache-net", "-m miros_cache_net ")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
            (programs / name).chmod(0o755)
        path = f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._environment = clean_environment(directory, **{**settings, "PATH": path})

    def type(self, command: str, answers: str = "") -> subprocess.CompletedProcess[str]:
        """Run one command to its end; what it exports, and where it goes, stays."""
        keep = f'code=$?; {{ export -p; echo "cd $(pwd)"; }} > {self._state}; exit $code'
        return subprocess.run(
            self._command(f"{command}\n{keep}"),
            env=self._environment,
            cwd=self.directory,
            input=answers,
            capture_output=True,
            text=True,
            timeout=AMPLE_S * 2,
            check=False,
        )

    def type_and_end(self, command: str, says: str) -> int:
        """Run one that lasts, until it has said that and gets SIGTERM; its exit code."""
        output = self.directory / "output"
        with output.open("w") as stream:
            process = subprocess.Popen(
                self._command(f"exec {command}"),
                env=self._environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            wait_until(
                lambda: says in output.read_text() or process.poll() is not None,
                timeout_s=AMPLE_S,
                what=f"{command} to say {says!r}",
            )
            assert process.poll() is None, output.read_text()
            return end_by(process, signal.SIGTERM)
        finally:
            process.kill()
            process.wait()

    def run_python(self, block: Block) -> subprocess.CompletedProcess[str]:
        """Run it as a program, whose user presses Enter."""
        (self.directory / "snippet.py").write_text(block.text)
        return self.type(f"python {self.directory / 'snippet.py'}", answers="\n")

    def _command(self, script: str) -> list[str]:
        return [*self._place, "bash", "-c", f". {self._state}\n{script}"]


def pages() -> Iterator[Path]:
    """Those whose commands and snippets are typed here; the tutorial and the kit's how-to have tests of their own."""
    yield SOURCES / "README.md"
    yield from sorted((SOURCES / "docs" / "how-to").glob("*.md"))
