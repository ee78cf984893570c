"""Single keys from a terminal, for commands that fill the screen."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from typing import Any, Final

_ESCAPE: Final = b"\x1b"
#: How long the parts of one sequence may be apart.
_SEQUENCE_S: Final = 0.02
#: What terminals send for keys without a character, longer ones first.
_NAMED: Final = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    _ESCAPE: "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\b": "backspace",
}


class Keyboard:
    """The terminal on standard input, for the life of a ``with`` block.

    Each key is handed over at once, and not shown; Ctrl-C interrupts as always.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdin.fileno()
        self._typed = bytearray()
        self._before: list[Any] = []

    def __enter__(self) -> Keyboard:
        self._before = termios.tcgetattr(self._terminal)
        tty.setcbreak(self._terminal)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)

    def next_key(self, timeout_s: float) -> str | None:
        """The next key, a character or a name such as ``enter``; None if none comes in `timeout_s` seconds.

        "" once the terminal is gone.
        """
        if not self._typed and not self._read(timeout_s):
            return None
        if not self._typed:
            return ""
        if self._typed[:1] == _ESCAPE:
            self._read(_SEQUENCE_S)  # the rest of it, unless it is the key itself
        sequence = next((each for each in _NAMED if self._typed.startswith(each)), None)
        if sequence is not None:
            del self._typed[: len(sequence)]
            return _NAMED[sequence]
        text = self._typed.decode(errors="ignore")[:1] or "?"
        del self._typed[: len(text.encode()) if text != "?" else 1]
        return text

    def _read(self, timeout_s: float) -> bool:
        """Take in what is typed; False if nothing is."""
        if not select.select([self._terminal], [], [], timeout_s)[0]:
            return False
        self._typed += os.read(self._terminal, 1024)
        return True
