"""Would a write of the cache file succeed?  Checked before one fails."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

from miros_cache_net import limits
from miros_cache_net.cli.checks.finding import OK, Finding, failed_by, warning
from miros_cache_net.errors import StoreError
from miros_cache_net.store.disk_look import try_disk
from miros_cache_net.store.os_errors import store_error

#: Less is a warning: a document of the greatest size would not fit beside its predecessor.
_LITTLE_BYTES = 2 * limits.DOCUMENT_BYTES


def check_disk(path: Path) -> Finding:
    """Is there room for another document of this size?  A file of that size is made beside it, and removed."""
    try:
        try_disk(path)
        status = os.statvfs(path.parent)
    except OSError as error:
        return failed_by("disk", store_error(error, path))
    if not status.f_blocks:
        return Finding("disk", OK, "a file of this size fits")  # the file system does not report its size
    free = status.f_bavail * status.f_frsize
    if free < _LITTLE_BYTES:
        return warning("disk", f"{path.parent}: {free // 1024} KiB left", "free some space before writes fail")
    return Finding("disk", OK, f"{free // 1024**2} MiB left")


def why_not_replaced(path: Path) -> StoreError | None:
    """Why the file at `path` cannot be replaced although its directory is writable; None if it can."""
    with contextlib.suppress(OSError):
        if path.exists() and _mount_of(path) != _mount_of(path.parent):
            return store_error(OSError(errno.EBUSY, ""), path)
    return None


def why_read_only(directory: Path) -> StoreError | None:
    """The error for a directory on a read-only file system; None if the file system is writable."""
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        return store_error(OSError(errno.EROFS, ""), directory)
    return None


def _mount_of(path: Path) -> str:
    """The id of the mount that holds `path`, on Linux; "" elsewhere."""
    with contextlib.suppress(AttributeError, OSError):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            found = re.search(r"^mnt_id:\s*(\d+)$", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)
            return found[1] if found else ""
        finally:
            os.close(fd)
    return ""
