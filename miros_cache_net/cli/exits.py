"""How a command ends: its exit code, and the one line that says why."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from types import FrameType
from typing import Any, Final

from miros_cache_net.errors import CacheNetError, PayloadError, SettingsError
from miros_cache_net.settings.environment import variable

PROGRAM: Final = "miros-cache-net"
#: If set to anything, every error prints its traceback too.
DEBUG: Final = "MIROS_CACHE_DEBUG"


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    DONE = 0
    NO = 1  # the answer is no
    USAGE = 2  # the command line, its input or a setting is wrong
    UNREACHABLE = 3  # the file, the broker or the fleet cannot be reached or used
    BUG = 70
    HUNG_UP = 129  # SIGHUP
    INTERRUPTED = 130  # Ctrl-C
    PIPE_CLOSED = 141  # the reader of the output is gone
    TERMINATED = 143  # SIGTERM


class Terminated(BaseException):
    """SIGTERM arrived.  It unwinds the stack like a KeyboardInterrupt."""

    code = Exit.TERMINATED


class HungUp(Terminated):
    """SIGHUP arrived and is not ignored (as under `nohup`): the terminal is gone."""

    code = Exit.HUNG_UP


class PipeClosed(BaseException):
    """The reader of the output is gone: nothing more can be printed, and that is no error."""


def guarded(run: Callable[[], int | None], *, as_json: bool = False) -> int:
    """Run a command, write out what it printed, and turn whatever it raises into an exit code.

    `as_json`: an error is a JSON object on a line of standard error.
    """
    with _signals_raise(), _any_text_can_be_printed():
        try:
            code = run() or Exit.DONE
            _flush()
        except BaseException as error:
            code = _ended_by(error, as_json)
        try:
            _flush()
        except (OSError, ValueError):
            # Python flushes once more at exit, and would complain of output that nothing reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return int(code)


def say(text: str) -> None:
    """Print one line on standard error, with what a terminal would interpret escaped."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """`text` on one line, with control and other unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def _ended_by(error: BaseException, as_json: bool) -> int:
    if variable(DEBUG):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Exit.DONE if error.code is None else Exit.USAGE
    if isinstance(error, Terminated):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, PipeClosed | BrokenPipeError):
        return Exit.PIPE_CLOSED
    code, line = _explained(error)
    if line and as_json:
        _say_json(error, code, line)
    elif line:
        say(f"{PROGRAM}: error: {line}")
    return code


def _say_json(error: BaseException, code: Exit, line: str) -> None:
    import json

    reason = error.reason.value if isinstance(error, CacheNetError) else ""
    what = {"error": printable(line), "kind": type(error).__name__, "reason": reason, "exit_code": int(code)}
    with contextlib.suppress(OSError):
        print(json.dumps(what), file=sys.stderr, flush=True)


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
    return Exit.BUG, f"{said} (a bug in {PROGRAM}; {DEBUG}=1 shows the traceback)"


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    before: dict[int, Any] = {}
    raisers: dict[int, type[Terminated]] = {signal.SIGTERM: Terminated, signal.SIGHUP: HungUp}
    for number, raised in raisers.items():
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            before[number] = signal.signal(number, functools.partial(_raise, raised))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(raised: type[Terminated], _number: int, _frame: FrameType | None) -> None:
    raise raised


@contextlib.contextmanager
def _any_text_can_be_printed() -> Iterator[None]:
    """Escape what standard output's encoding cannot represent (a latin-1 locale, half a surrogate pair).

    Every command prints through this one stream, be it with click, rich or `print`.
    """
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper) or out.errors != "strict":
        yield
        return
    out.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            out.reconfigure(errors="strict")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
