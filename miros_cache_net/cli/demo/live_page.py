"""The demo's live page: `miros-cache-net view` as a process beside the hosts."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from miros_cache_net.cli.demo.host_process import DemoFailed
from miros_cache_net.cli.exits import Terminated


class LivePage:
    """Serves the page on a free port of loopback for the life of a ``with`` block; `url` leads to it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        home = directory / "view"
        home.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "miros_cache_net", "view", "--port", "0"],
            cwd=home,
            env={**environment, "MIROS_CACHE_FILE": str(home / "cache.json")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said.startswith("http://"):
            self.close()
            raise DemoFailed(f"the page did not start: {said.strip() or 'it said nothing'}")
        self.url = said.split()[0]

    def stay(self) -> None:
        """Return on Ctrl-C or SIGTERM, or when the page has ended."""
        with contextlib.suppress(KeyboardInterrupt, Terminated):
            while self._process.poll() is None:
                time.sleep(0.2)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()
