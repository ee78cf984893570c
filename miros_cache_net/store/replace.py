"""Replacing the document atomically, and setting aside a file that contains none.  Called inside exclusive access.

The order of system calls is the one that survives power loss: write all bytes, fsync the file, rename,
fsync the directory, only then acknowledge (Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014).  A failed fsync is never retried: the kernel has dropped the dirty pages (Rebello et al.,
"Can Applications Recover from fsync Failures?", ATC 2020).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from functools import partial
from io import FileIO

from miros_cache_net import limits
from miros_cache_net.errors import FileRefused
from miros_cache_net.store.regular import SAFELY, close_quietly
from miros_cache_net.store.rights import Rights, attempted

_WRITE_BITS = 0o222


def put_in_place(directory: int, name: str, text: bytes, *, mtime_ms: int, rights: Rights) -> tuple[int, int]:
    """Replace the file `name` in `directory` with `text`, which is synced before the rename.

    Returns a descriptor of the new inode, un-writable from birth, and the mode to give it once others may write: that
    of `rights`, as far as it can be given.  The directory is not synced yet.  On any error the old file is unchanged
    and the temporary file is gone.
    """
    temporary = temporary_name(name)
    fd = -1
    try:
        # Closed before the rename: a watcher of the document then wakes for the rename only, not for the close as well.
        with _made(directory, temporary) as file:
            writing = file.fileno()
            fd = _opened_to_read(directory, temporary, writing)
            mode = rights.give(writing, without=_WRITE_BITS)
            _write_all(writing, text)
            attempted(os.utime, writing, ns=(time.time_ns(), mtime_ms * 1_000_000))
            os.fsync(writing)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        close_quietly(fd)
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    return fd, mode


def temporary_name(name: str) -> str:
    """A name for a temporary file beside the document `name`; `sweep` removes files with such names."""
    return f".{name}.tmp-{os.getpid()}-{os.urandom(8).hex()}"


def _made(directory: int, name: str) -> FileIO:
    """A new file, open for writing.

    No line of Python runs between the open and the creation of the object: making a file takes long enough for a signal
    to arrive, and if its handler raises, a bare descriptor would leak.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY
    return next(map(FileIO, map(partial(os.open, dir_fd=directory), (name,), (flags,), (0o400,))))


def _opened_to_read(directory: int, temporary: str, writing: int) -> int:
    """A second descriptor, for reading, of the file open as `writing`, whatever mode the umask left it."""
    attempted(os.fchmod, writing, 0o400)
    fd = os.open(temporary, os.O_RDONLY | SAFELY, dir_fd=directory)
    if not os.path.samestat(os.fstat(fd), os.fstat(writing)):
        os.close(fd)
        raise FileRefused(f"{temporary}: replaced while it was being written; check who else may write its directory")
    return fd


def sync_directory(directory: int) -> None:
    """Sync the rename to the disk if the file system supports it; raises `OSError`."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some user-space file systems cannot sync directories
            raise


def sweep(path: str) -> None:
    """Remove temporary files left by killed writers of this document; no live writer can exist now."""
    ours = f".{os.path.basename(path)}.tmp-"
    with os.scandir(os.path.dirname(path)) as entries:
        left_over = [
            entry.path for entry in entries if entry.name.startswith(ours) and _is_random(entry.name[len(ours) :])
        ]
    for name in left_over:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _is_random(end: str) -> bool:
    return re.fullmatch(r"[0-9]+-[0-9a-f]{16}", end) is not None


def set_aside(path: str) -> tuple[str, list[str]]:
    """Move the file at `path` to a name that marks it as corrupt; returns that name, and the files removed for it.

    Beyond `limits.SET_ASIDE_FILES` such files, the first one stays, because a person most likely wrote it, and the
    oldest of the others are removed.
    """
    others = _set_aside_before(path)
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = f"{path}.corrupt-{when}-{os.urandom(3).hex()}"
    os.rename(path, aside)
    gone = others[1 : max(1, len(others) + 2 - limits.SET_ASIDE_FILES)]
    for name in gone:
        with contextlib.suppress(OSError):
            os.unlink(name)
    return aside, gone


def _set_aside_before(path: str) -> list[str]:
    """Oldest first; only exact `set_aside` names, because a file that merely starts like one is a user's own."""
    ours = re.compile(re.escape(os.path.basename(path)) + r"\.corrupt-([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{6}")
    found = []
    with os.scandir(os.path.dirname(path)) as entries:
        for entry in entries:
            match = ours.fullmatch(entry.name)
            if match and entry.is_file(follow_symlinks=False):
                # The name's timestamp comes first: unlike ctime, it survives a copy of the directory or a `chmod`.
                found.append((match[1], entry.stat(follow_symlinks=False).st_ctime_ns, entry.path))
    return [name for _, _, name in sorted(found)]


def _write_all(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        # On a nearly full disk the first write is short, without an error; the next one fails.
        view = view[os.write(fd, view) :]
