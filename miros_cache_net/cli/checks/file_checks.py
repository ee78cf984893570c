"""Can the cache file be read, written and locked, and do its stamps fit this clock?"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from miros_cache_net import limits
from miros_cache_net.cli.cache_file import count_text, file_errors
from miros_cache_net.cli.checks.disk_checks import check_disk, why_not_replaced, why_read_only
from miros_cache_net.cli.checks.finding import FAILED, OK, SKIPPED, Finding, failed, failed_by, warning
from miros_cache_net.cli.describe import age_line
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.errors import StoreError
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.lock import Outcome
from miros_cache_net.store.sidecar import sidecar_path
from miros_cache_net.store.snapshot import Snapshot


def check_file(path: Path) -> list[Finding]:
    """Check the directory, the file, the lock and the stamps.

    Nothing is changed, except that a lock file may be made, and a probe file beside the document is made and removed.
    """
    directory = _check_directory(path.parent)
    if directory.outcome == FAILED:
        return [directory, Finding("file", SKIPPED, f"{path} needs the directory")]
    store = FileStore(path)
    try:
        with file_errors(path):
            snapshot = store.read()
        if snapshot.status is None:
            file = Finding("file", OK, f"{path} does not exist yet; the first write makes it")
            return [directory, file, check_disk(path), *(_lock_findings(store) if _has_lock(path) else [])]
        described = [directory, _describe(snapshot, path), check_disk(path), *_lock_findings(store)]
        return [*described, *_modes(path), *_set_aside(path), _check_stamps(snapshot), *_never_expires(snapshot)]
    except StoreError as error:
        return [directory, failed_by("file", error), *_set_aside(path)]
    finally:
        store.close()


def _check_directory(directory: Path) -> Finding:
    try:
        status = directory.stat()
    except OSError as error:
        return failed("directory", f"{directory}: {error.strerror}", "create it, or correct MIROS_CACHE_FILE")
    if not stat.S_ISDIR(status.st_mode):
        return failed("directory", f"{directory} is not a directory", "correct MIROS_CACHE_FILE")
    if status.st_mode & stat.S_ISVTX:
        return failed("directory", f"{directory} is sticky, shared by everyone", "use another directory")
    if read_only := why_read_only(directory):
        return failed_by("directory", read_only)
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        mode = stat.filemode(status.st_mode)
        return failed("directory", f"{directory} ({mode}) is not writable by you", "chmod or chown it")
    return Finding("directory", OK, f"{directory} is writable")


def _describe(snapshot: Snapshot, path: Path) -> Finding:
    if why := why_not_replaced(path):
        return failed_by("file", why)
    payload = snapshot.payload(path, SYSTEM_CLOCK.wall_ms())
    return Finding("file", OK, f"{path}: {count_text(len(payload.dict), 'key')}, {age_line(payload)}")


def _has_lock(path: Path) -> bool:
    return os.path.lexists(sidecar_path(os.fspath(path)))


def _lock_findings(store: FileStore) -> list[Finding]:
    return [_check_lock(store), *_shut_out(Path(store.path))]


def _shut_out(path: Path) -> list[Finding]:
    """A warning if the directory's group may not open the lock, for example because of the umask of its maker."""
    with contextlib.suppress(OSError):
        directory, lock = path.parent.stat(), os.stat(sidecar_path(os.fspath(path)))
        lets_in = lock.st_mode & stat.S_IWGRP and directory.st_gid == lock.st_gid
        if directory.st_mode & stat.S_IWGRP and not lets_in and not lock.st_mode & 0o066:
            text = f"{sidecar_path(path.name)} keeps out the directory's group"
            return [warning("sharing", text, f"`chgrp {directory.st_gid}` and `chmod g+rw` it")]
    return []


def _check_lock(store: FileStore) -> Finding:
    access = store.access
    try:
        with file_errors(Path(store.path)):
            outcome = access.try_enter()
    except StoreError as error:
        return failed_by("lock", error)
    if outcome is Outcome.HELD:
        return warning(
            "lock",
            f"{store.path} is un-writable and its lock is free: a program that knows only the mode bit is "
            "writing, or has died",
            f"`chmod u+w` it, or the next write does so after {limits.TAKE_OVER_AFTER_S:g} s",
        )
    if outcome is Outcome.LOCKED:
        return Finding("lock", OK, "in use by another program at this moment")
    # the next writer cleans up after a killed holder
    access.leave(failed=access.recovered)
    return Finding("lock", OK, "free")


def _set_aside(path: Path) -> list[Finding]:
    broken = len(list(path.parent.glob(f"{path.name}.corrupt-*")))
    if not broken:
        return []
    text = f"{count_text(broken, 'file')} that held no document set aside as {path.name}.corrupt-*"
    if broken >= limits.SET_ASIDE_FILES:
        text += "; something keeps breaking the file, and from now on all but the first and the newest are deleted"
    return [warning("set aside", text)]


def _modes(path: Path) -> list[Finding]:
    """A failure for each file that lets in users who may not write the directory: they could write or lock it."""
    found = []
    with contextlib.suppress(OSError):
        if path.parent.stat().st_mode & stat.S_IWOTH:
            return []
        for file, too_much in ((path, stat.S_IWOTH), *((lock, 0o006) for lock in _locks(path))):
            mode = file.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & too_much:
                found.append(failed("modes", f"{file} ({stat.filemode(mode)}) is open to users who may not write here"))
    return found


def _locks(path: Path) -> list[Path]:
    sidecar = Path(sidecar_path(os.fspath(path)))
    return [*([sidecar] if sidecar.exists() else []), *path.parent.glob(f".{path.name}.bridge-*")]


def _never_expires(snapshot: Snapshot) -> list[Finding]:
    document = snapshot.document
    if document.is_empty or document.expired(SYSTEM_CLOCK.wall_ms()):
        return []
    expires_s = document.expires_s(SYSTEM_CLOCK.wall_ms())
    return [warning("expiry", "the document never expires")] if expires_s is None else []


def _check_stamps(snapshot: Snapshot) -> Finding:
    ahead_ms = snapshot.document.ahead_ms(SYSTEM_CLOCK.wall_ms())
    if ahead_ms <= limits.CLOCK_AHEAD_MS:
        return Finding("stamps", OK, "none ahead of this machine's clock")
    return warning(
        "stamps",
        f"the document's stamps are {ahead_ms / 1000:.0f} s ahead of this machine's clock; they count, but "
        "clocks decide between concurrent writes",
        f"set this clock, or that of {snapshot.document.origin} (chrony, NTP)",
    )
