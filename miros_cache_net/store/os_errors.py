"""The operating system's errors about the cache file, as the project's errors."""

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

#: The messages for a read-only file system, and for a volume that is a single file.
READ_ONLY = (
    "the file system is mounted read-only; mount it writable (a container: without `:ro`), or name another place"
)
MOUNTED_ALONE = (
    "the file is mounted by itself (a volume of one file), so it can be read but not replaced; "
    "mount its directory instead"
)

#: What happened; what to do about it.
_KINDS: dict[int, tuple[type[StoreError], str]] = {
    errno.EACCES: (
        PermissionRefused,
        "no permission; check the owner and mode of the file, its lock and its directory (and SELinux or AppArmor)",
    ),
    errno.EPERM: (Immutable, "not permitted even to its owner; look for an immutable flag (lsattr) and remove it"),
    errno.ENOENT: (DirectoryMissing, "its directory does not exist; create it"),
    errno.ENOTDIR: (DirectoryMissing, "a part of its path is not a directory"),
    errno.ENOSPC: (NoSpace, "no space left; free some space, the document is unchanged"),
    errno.EDQUOT: (NoSpace, "disk quota exceeded; free some space, the document is unchanged"),
    errno.EROFS: (FileSystemReadOnly, READ_ONLY),
    errno.EBUSY: (FileRefused, MOUNTED_ALONE),
    errno.ELOOP: (SymbolicLinkRefused, "it is a symbolic link; name the file itself"),
    errno.EISDIR: (NotRegularRefused, "it is a directory; name a file in it"),
    errno.ENXIO: (NotRegularRefused, "not a regular file; name a file that only the cache uses"),
    errno.ENAMETOOLONG: (FileRefused, "its name is too long; leave 40 bytes for the names of temporary files"),
    errno.EMFILE: (FileIOError, "this process has too many files open; close some or raise its limit (ulimit -n)"),
    errno.ENFILE: (FileIOError, "the machine has too many files open; raise fs.file-max"),
    **dict.fromkeys(
        (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
        (FileIOError, "the file system cannot lock or replace files; put the cache on a local one"),
    ),
    errno.ESTALE: (FileIOError, "the network file system has lost it; mount it again, or put the cache on a local one"),
    errno.EIO: (FileIOError, "the disk reports an error; the document is the old or the new one, whole; see dmesg"),
}


def store_error(error: OSError, path: str | os.PathLike[str]) -> StoreError:
    """The `StoreError` that says what `error` means for the file at `path`."""
    kind, text = _KINDS.get(error.errno or 0, (FileIOError, error.strerror or str(error)))
    what, _, mend = text.partition("; ")
    return kind(f"{path}: {what}", mend=mend)
