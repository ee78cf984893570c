"""What the operating system says about the cache file, in the project's words."""

from __future__ import annotations

import errno
from pathlib import Path

from miros_cache_net.errors import (
    DirectoryMissing,
    FileIOError,
    FileRefused,
    FileSystemReadOnly,
    NoSpace,
    PermissionRefused,
    StoreError,
)

_KINDS: dict[int, tuple[type[StoreError], str]] = {
    errno.EACCES: (
        PermissionRefused,
        "no permission; check the owner and mode of the file, its lock and its directory",
    ),
    errno.EPERM: (PermissionRefused, "not permitted; another user owns it, or it is marked immutable (lsattr)"),
    errno.ENOENT: (DirectoryMissing, "its directory does not exist; create it"),
    errno.ENOTDIR: (DirectoryMissing, "a part of its path is no directory"),
    errno.ENOSPC: (NoSpace, "no space left; free some, the document is as it was"),
    errno.EDQUOT: (NoSpace, "disk quota exceeded; free some, the document is as it was"),
    errno.EROFS: (FileSystemReadOnly, "the file system is mounted read-only"),
    errno.ELOOP: (FileRefused, "it is a symbolic link; name the file itself"),
    errno.EISDIR: (FileRefused, "it is a directory; name a file in it"),
    errno.ENXIO: (FileRefused, "it is no regular file"),
}


def store_error(error: OSError, path: Path | str) -> StoreError:
    """The `StoreError` that says what `error` means for the file at `path`."""
    kind, mend = _KINDS.get(error.errno or 0, (FileIOError, error.strerror or str(error)))
    return kind(f"{path}: {mend}")
