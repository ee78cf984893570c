"""Live lines of spy and trace, on miros' writer thread, that no callback's mistake can silence for the other charts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from miros_cache_net.statechart import fabric

Callback = Callable[[str], Any]


def on_writer(callback: Callback, failed: Callable[[BaseException], None]) -> Callable[[str], None]:
    """`callback`, called on the writer's thread; its first mistake is told to `failed`, its others are ignored."""
    silent = False

    def guarded(line: str) -> None:
        nonlocal silent
        try:
            callback(line)
        except BaseException as exc:
            # Once: a callback that fails mostly fails for each of a thousand lines.
            if not silent:
                silent = True
                failed(exc)

    return lambda line: fabric.write_live(guarded, line)


def print_line(content: object) -> None:
    """Print on the writer's thread, in order with the live lines."""
    fabric.write_live(_print, str(content))


def _print(content: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard output is closed, or nobody reads it
        print(content, flush=True)
