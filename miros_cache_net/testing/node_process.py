"""A `CacheNode` in a process of its own, seen from the test that started it."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miros_cache_net.errors import CacheNetError

PROGRAM = ("-m", "miros_cache_net.testing.host_program")
_END_S = 20.0
#: A process of a long test prints more lines than anybody will read.
_LINES = 20_000

Line = dict[str, Any]


class NodeProcessFailed(CacheNetError):
    """A host's process ended or failed a command; the message ends with the reason or the tail of its log."""


class NodeProcess:
    """The constructor starts the process, without a fork; it ends with this process, even if this one is killed.

    settings     of its node, by the names of `Settings`; passed through a pipe, not in arguments or environment
    directory    its working directory, where its standard error is kept too
    environment  of the process; None: this process's own
    command      wraps the command to execute (see `NetworkHost.command`)
    program      Python's arguments: `host_program`, or a module that extends it
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Path,
        *,
        default: Mapping[str, Any] | None = None,
        skew_s: float = 0.0,
        environment: Mapping[str, str] | None = None,
        command: Callable[[list[str]], list[str]] = list,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._log = directory / "log"
        self._lines: deque[Line] = deque(maxlen=_LINES)
        self._ended = False
        self._news = threading.Condition()
        self._telling = threading.Lock()
        self._numbers = itertools.count(1)
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                command([sys.executable, *program]),
                cwd=directory,
                env=None if environment is None else dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._listener = threading.Thread(target=self._listen, name=f"listens to {self.pid}", daemon=True)
        self._listener.start()
        self._write({"settings": dict(settings), "default": dict(default or {}), "skew_s": skew_s})

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for_start(self) -> None:
        """Return once its node was made; raises `NodeProcessFailed` if that fails."""
        self.wait_for(started=self.pid)

    # --- commands and answers ---------------------------------------------------------------------------

    def tell(self, do: str, **arguments: Any) -> int:
        """Send the command `do`; returns the number that its answer will have."""
        number = next(self._numbers)
        self._write({"number": number, "do": do, "arguments": arguments})
        return number

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send the command `do` and return its result; raises `NodeProcessFailed` with the reason if it fails."""
        answer = self.wait_for(number=self.tell(do, **arguments))
        if "failed" in answer:
            raise NodeProcessFailed(f"{do!r} failed in process {self.pid}: {answer['failed']}")
        return answer["result"]

    def status(self) -> dict[str, Any]:
        """`CacheNode.status` of its node."""
        return dict(self.ask("status"))

    def said(self) -> list[Line]:
        """The lines so far, at most the last 20,000."""
        with self._news:
            return list(self._lines)

    def wait_for(self, timeout_s: float = 60.0, **wanted: Any) -> Line:
        """The last line with these items, as soon as there is one; raises `NodeProcessFailed` if none comes."""

        def find() -> Line | None:
            return next((line for line in reversed(self._lines) if wanted.items() <= line.items()), None)

        with self._news:
            self._news.wait_for(lambda: find() or self._ended, timeout_s)
            found = find()
        if found is None:
            state = "said nothing of it"
            if self._ended:  # its output is closed; wait for its end, so that no later command is lost in its input
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
                state = f"ended with {self._process.returncode}"
            last = self._log.read_text(errors="replace").strip()[-2000:]
            raise NodeProcessFailed(f"waited for {wanted}, but process {self.pid} {state}; its log ends with: {last}")
        return found

    # --- its end ----------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; after SIGSTOP it hangs with all its connections open."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end.  Idempotent."""
        self._process.kill()
        self._process.wait()
        self._close_input()
        self._listener.join()

    def stop(self) -> None:
        """Stop it in an orderly way and wait; if it does not end, kill it, `NodeProcessFailed`.  Idempotent."""
        if self.running:
            self.signal(signal.SIGCONT)
        self._close_input()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            raise NodeProcessFailed(f"process {self.pid} did not end in {_END_S:g} s") from None
        finally:
            self.kill()

    def _close_input(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed with something unread
            self._process.stdin.close()

    def _write(self, line: Line) -> None:
        assert self._process.stdin is not None
        try:
            with self._telling:
                self._process.stdin.write(json.dumps(line) + "\n")
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise NodeProcessFailed(f"process {self.pid} has ended and takes no more commands") from None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for text in output:
                line = json.loads(text)
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
