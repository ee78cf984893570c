"""Runs an unchanged program of `miros-rabbitmq` on the adapter: its imports of the old package find this one.

    python -m miros_cache_net.mesh PROGRAM [ARGUMENT...]

The program replaces this process, started as ``python PROGRAM ARGUMENT...``, so that its signals, tracebacks and child
processes behave as usual.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.environment import PREFIX, environment

_STAND_IN: Final = Path(__file__).with_name("stand_in")
#: The directory of this package, for a program with another import path.
_OURS: Final = Path(__file__).parents[2]
USAGE: Final = "usage: python -m miros_cache_net.mesh PROGRAM [ARGUMENT...]"


def run(program: str, arguments: Sequence[str] = ()) -> NoReturn:
    """Become ``python PROGRAM ARGUMENT...``.  Raises `SettingsError` if the program cannot be read."""
    try:
        with open(program, "rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{program}: {error.strerror}; name a Python program that can be read") from None
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, program, *arguments], _environment())


def _environment() -> dict[str, str]:
    """This process's environment, supplemented by `.env`, as the old package does on import.

    This package's settings in `.env` are left out: the program reads them from the file, so that they still count as
    file settings.
    """
    variables = {name: value for name, value in environment().items() if not name.startswith(PREFIX)}
    path = [str(_STAND_IN), str(_OURS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**variables, **os.environ, "PYTHONPATH": os.pathsep.join(path)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line's program; returns an exit code if there is nothing to run."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given[0].startswith("-"):
        wants_help = given[:1] in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    try:
        run(given[0], given[1:])
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
