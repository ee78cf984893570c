"""Having the kernel kill or fail a child at one chosen system call, through `strace`."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from miros_cache_net.testing import wait_until
from tests.multiprocess.children import Child

#: What the store asks of the kernel; memory and scheduling are not its business.
CALLS = (
    "openat,open,close,read,pread64,write,pwrite64,flock,fstat,newfstatat,stat,lstat,fchmod,fchown,utimensat,fsync,"
    "rename,renameat,renameat2,unlink,unlinkat,getdents64,lseek,fcntl,dup,statx,linkat,fgetxattr,fsetxattr"
)


class Call(NamedTuple):
    """The `number`-th call of that name."""

    name: str
    number: int


class StraceMissing(Exception):
    """Install Debian's package `strace`."""


def traced(log: Path, function: Callable[..., Any], *arguments: Any, inject: str = "") -> Child:
    """Run `function` in a forked child under strace, beginning with its very first call; returns the ended child.

    inject  what to do to which call, as strace's ``-e inject=`` has it
    """
    if shutil.which("strace") is None:
        raise StraceMissing("these tests need strace; install Debian's package of that name")

    def wait_and_run(writer: int, *arguments: Any) -> None:
        gc.disable()  # it would close what earlier tests have left, now here and now there
        signal.sigwait({signal.SIGUSR1})
        function(writer, *arguments)

    options = ["-e", f"inject={inject}"] if inject else []
    for _ in range(3):
        child, tracer = _attached(log, wait_and_run, arguments, options)
        if tracer.poll() is None:
            os.kill(child.pid, signal.SIGUSR1)
            child.join()
            tracer.wait(20)
            return child
        child.kill()
        child.join()
    raise AssertionError("strace does not attach to a child process")


def _attached(
    log: Path, function: Callable[..., Any], arguments: tuple[Any, ...], options: list[str]
) -> tuple[Child, subprocess.Popen[bytes]]:
    """A child that waits for SIGUSR1, and its tracer, or one that gave up, as happens on a busy machine."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        child = Child(function, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", log, "-e", f"trace={CALLS}", *options, "-p", str(child.pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: _is_traced(child.pid) or tracer.poll() is not None, 20.0, "strace to attach")
    return child, tracer


def calls_in(log: Path) -> list[Call]:
    """The calls of a child that was not disturbed, in their order."""
    numbers: dict[str, int] = {}
    calls = []
    for line in log.read_text().splitlines():
        match = re.match(r"\d+ +([a-z0-9_]+)\(", line)
        if match:
            name = match[1]
            numbers[name] = numbers.get(name, 0) + 1
            calls.append(Call(name, numbers[name]))
    return calls


def _is_traced(pid: int) -> bool:
    text = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in text
