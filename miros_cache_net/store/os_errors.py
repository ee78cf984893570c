"""What the operating system says about the cache file, in the project's words."""

from __future__ import annotations

import errno
import os

from miros_cache_net.errors import (
    DirectoryMissing,
    FileIOError,
    FileRefused,
    FileSystemReadOnly,
    Immutable,
    NoSpace,
    NotRegularRefused,
    PermissionRefused,
    StoreError,
    SymbolicLinkRefused,
)

_KINDS: dict[int, tuple[type[StoreError], str]] = {
    errno.EACCES: (
        PermissionRefused,
        "no permission; check the owner and mode of the file, its lock and its directory",
    ),
    errno.EPERM: (Immutable, "not permitted even to its owner; look for an immutable mark (lsattr) and remove it"),
    errno.ENOENT: (DirectoryMissing, "its directory does not exist; create it"),
    errno.ENOTDIR: (DirectoryMissing, "a part of its path is no directory"),
    errno.ENOSPC: (NoSpace, "no space left; free some, the document is as it was"),
    errno.EDQUOT: (NoSpace, "disk quota exceeded; free some, the document is as it was"),
    errno.EROFS: (FileSystemReadOnly, "the file system is mounted read-only"),
    errno.ELOOP: (SymbolicLinkRefused, "it is a symbolic link; name the file itself"),
    errno.EISDIR: (NotRegularRefused, "it is a directory; name a file in it"),
    errno.ENXIO: (NotRegularRefused, "it is no regular file; name a file of its own"),
    errno.ENAMETOOLONG: (FileRefused, "its name is too long; leave 40 bytes for the names of temporary files"),
    errno.EMFILE: (FileIOError, "this process has too many files open; close some or raise its limit (ulimit -n)"),
    errno.ENFILE: (FileIOError, "the machine has too many files open; raise fs.file-max"),
    errno.ENOLCK: (FileIOError, "the file system gives no locks; put the cache on a local one"),
    errno.EIO: (FileIOError, "the disk reports an error; the document is as it was before or after, see dmesg"),
}


def store_error(error: OSError, path: str | os.PathLike[str]) -> StoreError:
    """The `StoreError` that says what `error` means for the file at `path`."""
    kind, mend = _KINDS.get(error.errno or 0, (FileIOError, error.strerror or str(error)))
    return kind(f"{path}: {mend}")
