"""Several processes of one example: on the adapter, or unchanged under `run`, each in a directory of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import SOURCES, clean_environment

EXAMPLES = SOURCES / "examples"
_IMPORT = "from miros_cache_net.mesh import "


def as_an_old_program(example: str, directory: Path) -> Path:
    """The example with the one line changed: it imports the old package."""
    text = (EXAMPLES / example).read_text()
    assert text.count(f"\n{_IMPORT}") == 1
    program = directory / example
    program.write_text(text.replace(f"\n{_IMPORT}", "\nfrom miros_rabbitmq import "))
    return program


class Herd:
    """Processes that share broker and keys; ended with the context."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._stack = ExitStack()
        keys = ("MESH_ENCRYPTION_KEY", "SNOOP_TRACE_ENCRYPTION_KEY", "SNOOP_SPY_ENCRYPTION_KEY")
        self.environment = {
            "RABBIT_USER": "guest",
            "RABBIT_PASSWORD": "guest",
            "RABBIT_PORT": str(port),
            "MIROS_CACHE_DISCOVER": "127.0.0.1",
            **{name: generate_key().decode() for name in keys},
        }
        self._outputs: dict[str, Path] = {}

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        directory = self._directory / name
        directory.mkdir()
        self._outputs[name] = directory / "out"
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env=clean_environment(directory, **{**self.environment, **environment}),
            stdout=self._stack.enter_context(self._outputs[name].open("wb")),
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def output(self, name: str) -> str:
        return self._outputs[name].read_text()

    def plain(self, name: str) -> str:
        """The output without colours."""
        return re.sub(r"\033\[[0-9;]*m", "", self.output(name))

    def __enter__(self) -> Herd:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()


def commands(example: str, directory: Path, *, unchanged: bool) -> Sequence[str]:
    """The command line before the program's own arguments."""
    if unchanged:
        return ("-m", "miros_cache_net.mesh", str(as_an_old_program(example, directory)))
    return (str(EXAMPLES / example),)
