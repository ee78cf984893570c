"""What a check of `doctor` found."""

from __future__ import annotations

from typing import Final, NamedTuple

OK: Final = "ok"
FAILED: Final = "FAILED"
WARNING: Final = "warning"
SKIPPED: Final = "skipped"


class Finding(NamedTuple):
    """One line of `doctor`.

    check    what was looked at, in a word
    outcome  `OK`, `FAILED`, `WARNING` (works, but look at it) or `SKIPPED` (an earlier failure is in the way)
    detail   one line; of a failure it says how to mend it
    """

    check: str
    outcome: str
    detail: str
