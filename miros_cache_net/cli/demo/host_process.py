"""A host of the demo, seen from outside: a process with its own directory, and its output."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from miros_cache_net.errors import CacheNetError

Line = dict[str, Any]


class DemoFailed(CacheNetError):
    """A step of the demo did not happen as expected."""


class HostProcess:
    """Starts `miros-cache-net node --discover=...` for host `name` in its own directory; `stop` ends it and waits."""

    def __init__(self, name: str, directory: Path, environment: dict[str, str], candidates: Sequence[str]) -> None:
        self.name = name
        self.file = directory / name / "cache.json"
        self.file.parent.mkdir(exist_ok=True)
        self._lines: list[Line] = []
        self._news = threading.Condition()
        own = {"MIROS_CACHE_FILE": str(self.file), "MIROS_CACHE_NODE_NAME": name}
        self._log = self.file.parent / "log"
        self.began_s = time.monotonic()
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "miros_cache_net", "node", f"--discover={','.join(candidates)}", "--json"],
                # away from the user's directory, whose .env is not the host's
                cwd=self.file.parent,
                env={**environment, **own},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C must reach only the demo itself, which stops the hosts cleanly
                start_new_session=True,
            )
        threading.Thread(target=self._listen, name=f"demo host {name}", daemon=True).start()

    def wait_for(self, what: str, when: Callable[[Line], bool] = lambda _line: True, timeout_s: float = 20.0) -> Line:
        """The first line about `what` for which `when` holds.  `DemoFailed`, with the host's log, if none comes."""
        with self._news:
            found = self._news.wait_for(lambda: self._find(what, when) or self._process.poll() is not None, timeout_s)
            line = self._find(what, when)
        if line is None:
            state = "did not report it" if not found else "ended early"
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise DemoFailed(f"{self.name}: waited for {what!r}, but the host {state}; its log ends with: {last[0]}")
        return line

    def lines(self, what: str) -> list[Line]:
        """All lines about `what` so far."""
        with self._news:
            return [line for line in self._lines if line["what"] == what]

    def after_s(self, line: Line) -> float:
        """How long after its start the host printed that line."""
        return float(line["at"] - self.wait_for("started")["at"])

    def kill(self) -> None:
        """End the process with SIGKILL, as abruptly as a power cut."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if that does not end it in 10 s."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _find(self, what: str, when: Callable[[Line], bool]) -> Line | None:
        return next((line for line in self._lines if line["what"] == what and when(line)), None)

    def _listen(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream:
            for text in stream:
                with self._news:
                    self._lines.append(json.loads(text) | {"wall_s": time.monotonic() - self.began_s})
                    self._news.notify_all()
        with self._news:
            self._process.wait()
            self._news.notify_all()
