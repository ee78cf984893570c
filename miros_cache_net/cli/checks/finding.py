"""What a check of `doctor` found."""

from __future__ import annotations

from typing import Final, NamedTuple

from miros_cache_net.cli.checks.mends import mend_of
from miros_cache_net.errors import CacheNetError

OK: Final = "ok"
FAILED: Final = "FAILED"
WARNING: Final = "warning"
SKIPPED: Final = "skipped"


class Finding(NamedTuple):
    """One line of `doctor`.

    check    what was checked, in one word
    outcome  `OK`, `FAILED`, `WARNING` (works, but look at it) or `SKIPPED` (an earlier failure is in the way)
    detail   one line
    fix      what to do about it; never empty for a failure or a warning
    """

    check: str
    outcome: str
    detail: str
    fix: str = ""


def failed(check: str, detail: str, fix: str = "") -> Finding:
    """A failure; `fix` is given where it depends on the case, else it is the one in the table of mends."""
    return Finding(check, FAILED, detail, fix or mend_of(check))


def warning(check: str, detail: str, fix: str = "") -> Finding:
    """A warning, with its `fix` as for `failed`."""
    return Finding(check, WARNING, detail, fix or mend_of(check))


def failed_by(check: str, error: CacheNetError) -> Finding:
    """A failure that `error` describes, with the error's own remedy if it has one."""
    return failed(check, error.what, error.mend)
