"""Forked children for tests: started together, joined with a deadline, their mistakes shown."""

from __future__ import annotations

import codecs
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

#: Long enough for a shared disk that stalls: each write waits for the disk twice, and some children write in turn.
DEADLINE_S = 300.0

# a codec is loaded when it is first used, from where other users may not read
codecs.lookup("utf-8-sig")


class Child:
    """A forked process that runs a function; `said` is what the function wrote with `say`."""

    def __init__(
        self, function: Callable[..., Any], *arguments: Any, uid: int = 0, gid: int = 0, groups: Sequence[int] = ()
    ) -> None:
        self._reader, writer = os.pipe()
        self.said = b""
        self.status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reader)
            _run(function, arguments, writer, (uid, gid, groups))
        os.close(writer)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def abort(self) -> None:
        """If it has not ended, end it; by the faulthandler of pytest it shows on standard error where it is."""
        if self.status is None:
            os.kill(self.pid, signal.SIGABRT)
            os.kill(self.pid, signal.SIGCONT)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def join(self, deadline_s: float | None = None) -> int:
        """Wait for its end; its exit code, negative if a signal ended it.

        After the deadline the child and this process show on standard error where they are; then the child dies, and
        the test fails.
        """
        deadline_s = deadline_s or time.monotonic() + DEADLINE_S
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline_s:
                locks = Path("/proc/locks").read_text()
                faulthandler.dump_traceback(file=sys.__stderr__)
                self.abort()
                raise AssertionError(
                    f"child {self.pid} of {os.getpid()} did not end in time; the kernel's locks:\n{locks}"
                )
            else:
                time.sleep(0.002)
        if self._reader >= 0:
            with os.fdopen(self._reader, "rb") as pipe:
                self.said = pipe.read()
            self._reader = -1
        return self.status


def say(writer: int, text: str) -> None:
    """For children: tell the parent, in one system call."""
    os.write(writer, text.encode() + b"\n")


def join_all(children: Iterable[Child]) -> list[int]:
    """The exit codes of all; if one does not end in time, the others show where they are too."""
    deadline_s = time.monotonic() + DEADLINE_S
    all_of_them = list(children)
    try:
        return [child.join(deadline_s) for child in all_of_them]
    except AssertionError:
        for child in all_of_them:
            child.abort()
        raise


def _run(
    function: Callable[..., Any], arguments: tuple[Any, ...], writer: int, user: tuple[int, int, Sequence[int]]
) -> None:
    code = 1
    uid, gid, groups = user
    try:
        if gid:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
        if uid:
            os.setresuid(uid, uid, uid)
        function(writer, *arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
