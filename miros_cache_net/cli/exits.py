"""How a command ends: its exit code, and the one line that says why."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from types import FrameType
from typing import Final

from miros_cache_net.errors import CacheNetError, PayloadError, SettingsError
from miros_cache_net.settings.environment import variable

PROGRAM: Final = "miros-cache-net"
#: Set to anything, it adds the traceback to every error.
DEBUG: Final = "MIROS_CACHE_DEBUG"


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    DONE = 0
    NO = 1  # the answer is no
    USAGE = 2  # the command line, its input or a setting is wrong
    UNREACHABLE = 3  # the file, the broker or the fleet cannot be reached or used
    BUG = 70
    INTERRUPTED = 130  # Ctrl-C
    PIPE_CLOSED = 141  # the reader of the output went away
    TERMINATED = 143  # SIGTERM


class Terminated(BaseException):
    """SIGTERM arrived: unwinds like a KeyboardInterrupt."""


class PipeClosed(BaseException):
    """Whoever read the output went away: nothing more can be said, and that is no error."""


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command, write out what it printed, and turn whatever it raises into an exit code."""
    with _sigterm_raises():
        try:
            code = run() or Exit.DONE
            _flush()
        except BaseException as error:
            code = _ended_by(error)
    try:
        _flush()
    except (OSError, ValueError):
        # Python flushes once more at its end; what nobody takes any more must not make it complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return int(code)


def say(text: str) -> None:
    """One line on standard error.  What a terminal would obey is made visible instead."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """`text` on one line, control characters and the like as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def _ended_by(error: BaseException) -> int:
    if variable(DEBUG):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Exit.DONE if error.code is None else Exit.USAGE
    if isinstance(error, Terminated):
        return Exit.TERMINATED
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, PipeClosed | BrokenPipeError):
        return Exit.PIPE_CLOSED
    code, line = _explained(error)
    if line:
        say(f"{PROGRAM}: error: {line}")
    return code


def _explained(error: BaseException) -> tuple[Exit, str]:
    from click import Abort, ClickException

    if isinstance(error, Abort):
        return Exit.INTERRUPTED, ""
    if isinstance(error, ClickException):
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context is not None else ""
        return Exit.USAGE, error.format_message().rstrip(".") + hint
    if isinstance(error, CacheNetError):
        wrong_input = isinstance(error, SettingsError | PayloadError)
        return Exit.USAGE if wrong_input else Exit.UNREACHABLE, str(error)
    if isinstance(error, OSError):
        where = error.filename or "the operating system refuses"
        return Exit.UNREACHABLE, f"{where}: {error.strerror or error}"
    said = f"unexpected {type(error).__name__}: {str(error)[:300]}"
    return Exit.BUG, f"{said} (a bug of {PROGRAM}; with {DEBUG}=1 it shows where)"


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: signals are its owner's business
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
