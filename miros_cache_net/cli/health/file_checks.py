"""Can the cache file be read, written and locked, and do its stamps fit this clock?"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from miros_cache_net import limits
from miros_cache_net.cli.cache_file import count_text, file_errors
from miros_cache_net.cli.describe import age_line
from miros_cache_net.cli.health.finding import FAILED, OK, SKIPPED, WARNING, Finding
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.errors import StoreError
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.lock import Outcome
from miros_cache_net.store.snapshot import Snapshot


def check_file(path: Path) -> list[Finding]:
    """The directory, the file, the lock and the stamps; nothing is changed but that a lock file may be made."""
    directory = _check_directory(path.parent)
    if directory.outcome == FAILED:
        return [directory, Finding("file", SKIPPED, f"{path} needs the directory")]
    store = FileStore(path)
    try:
        with file_errors(path):
            snapshot = store.read()
        if snapshot.status is None:
            return [directory, Finding("file", OK, f"{path} is not there yet; the first write makes it")]
        return [directory, _describe(snapshot, path), _check_lock(store), *_set_aside(path), _check_stamps(snapshot)]
    except StoreError as error:
        return [directory, Finding("file", FAILED, str(error)), *_set_aside(path)]
    finally:
        store.close()


def _check_directory(directory: Path) -> Finding:
    try:
        status = directory.stat()
    except OSError as error:
        return Finding("directory", FAILED, f"{directory}: {error.strerror}; create it, or correct MIROS_CACHE_FILE")
    if not stat.S_ISDIR(status.st_mode):
        return Finding("directory", FAILED, f"{directory} is no directory; correct MIROS_CACHE_FILE")
    if status.st_mode & stat.S_ISVTX:
        return Finding("directory", FAILED, f"{directory} is sticky, everybody's: put the cache in one of its own")
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        mode = stat.filemode(status.st_mode)
        return Finding("directory", FAILED, f"{directory} ({mode}) is not writable for you: chmod or chown it")
    return Finding("directory", OK, f"{directory} is writable")


def _describe(snapshot: Snapshot, path: Path) -> Finding:
    payload = snapshot.payload(path, SYSTEM_CLOCK.wall_ms())
    return Finding("file", OK, f"{path}: {count_text(len(payload.dict), 'key')}, {age_line(payload)}")


def _check_lock(store: FileStore) -> Finding:
    access = store.access
    try:
        with file_errors(Path(store.path)):
            outcome = access.try_enter()
    except StoreError as error:
        return Finding("lock", FAILED, str(error))
    if outcome is Outcome.HELD:
        return Finding(
            "lock",
            WARNING,
            f"{store.path} is un-writable and nobody holds its lock: a program that knows only the mode bit is "
            f"writing, or has died; `chmod u+w` it, or the next write does after {limits.TAKE_OVER_AFTER_S:g} s",
        )
    if outcome is Outcome.LOCKED:
        return Finding("lock", OK, "in use by another program in this moment")
    # what a killed holder left behind is for the next writer to clear away
    access.leave(failed=access.recovered)
    return Finding("lock", OK, "free")


def _set_aside(path: Path) -> list[Finding]:
    broken = len(list(path.parent.glob(f"{path.name}.corrupt-*")))
    if not broken:
        return []
    text = f"{count_text(broken, 'file')} that held no document set aside as {path.name}.corrupt-*: look, then remove"
    return [Finding("set aside", FAILED if broken >= limits.SET_ASIDE_FILES else WARNING, text)]


def _check_stamps(snapshot: Snapshot) -> Finding:
    ahead_ms = snapshot.document.ahead_ms(SYSTEM_CLOCK.wall_ms())
    if ahead_ms <= limits.CLOCK_AHEAD_MS:
        return Finding("stamps", OK, "none ahead of this machine's clock")
    return Finding(
        "stamps",
        FAILED,
        f"the document is from {ahead_ms / 1000:.0f} s ahead of this machine's clock, hosts must agree within "
        f"{limits.CLOCK_AHEAD_MS // 1000} s: set this clock, or that of {snapshot.document.origin} (chrony, NTP)",
    )
