"""The command as users run it: a process of its own, in a directory of its own, without this machine's settings."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import miros_cache_net

SOURCES = Path(miros_cache_net.__file__).parents[1]
COMMAND = (sys.executable, "-m", "miros_cache_net")
#: Far above what any command takes: a test that needs it all has failed.
AMPLE_S = 30.0


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without the settings in it, and with buffers as users have them."""
    ours = ("MIROS_", "RABBIT_", "MESH_", "CONNECTION_", "XDG_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(SOURCES), **more}


def run(
    directory: Path, *arguments: str, stdin: str | bytes = b"", before: tuple[str, ...] = COMMAND, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in `directory` to its end."""
    finished = subprocess.run(
        [*before, *arguments],
        cwd=directory,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env=clean_environment(directory, **environment),
        timeout=AMPLE_S,
        check=False,
    )
    return subprocess.CompletedProcess(
        finished.args, finished.returncode, finished.stdout.decode(), finished.stderr.decode()
    )


def start(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the command in `directory`; use it in a ``with`` and end it there."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(directory, **environment),
    )


def error_line(finished: subprocess.CompletedProcess[str]) -> str:
    """The only line on standard error; fails if there is any other."""
    lines = finished.stderr.splitlines()
    assert len(lines) == 1, finished.stderr
    return lines[0]


def end_by(process: subprocess.Popen[Any], number: signal.Signals) -> int:
    """Send the signal until the process has ended; its exit code.

    Once is nearly always enough; Python sees a signal that comes in the instant before a blocking call only after it.
    """
    deadline = time.monotonic() + AMPLE_S
    while True:
        process.send_signal(number)
        try:
            return process.wait(2)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline, "the signal does not end it"


class Terminal:
    """The command with a pseudo-terminal for its standard input, output and error."""

    def __init__(
        self, directory: Path, *arguments: str, before: tuple[str, ...] = (), **environment: str
    ) -> None:  # fmt: skip
        self._master, slave = pty.openpty()
        options: dict[str, Any] = {"env": clean_environment(directory, TERM="xterm", COLUMNS="120", **environment)}
        self.process = subprocess.Popen(
            [*before, *COMMAND, *arguments],
            cwd=directory,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            **options,
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def show(self, expected: str) -> str:
        """Read until the terminal has shown `expected`; everything shown so far."""
        deadline = time.monotonic() + AMPLE_S
        while expected not in self.shown:
            assert time.monotonic() < deadline, f"{expected!r} does not show: {self.shown!r}"
            if not self._read():
                break
        assert expected in self.shown, self.shown
        return self.shown

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(AMPLE_S)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], AMPLE_S)[0]:
            return False
        with contextlib.suppress(OSError):  # Linux ends a pseudo-terminal with EIO
            data = os.read(self._master, 65536)
            self.shown += data.decode()
            return bool(data)
        return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(AMPLE_S)
        os.close(self._master)


@contextlib.contextmanager
def terminal(
    directory: Path, *arguments: str, before: tuple[str, ...] = (), **environment: str
) -> Iterator[Terminal]:  # fmt: skip
    """A `Terminal`, its command killed at the end of the ``with`` should it still run.  `before` runs the command."""
    opened = Terminal(directory, *arguments, before=before, **environment)
    try:
        yield opened
    finally:
        opened.close()
