"""Replacing the document atomically, and putting aside what is no document.  Called inside exclusive access.

The order of system calls is the one that survives power loss: write all bytes, fsync the file, rename,
fsync the directory, only then acknowledge (Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014).  A failed fsync is never tried again: the kernel has dropped the dirty pages (Rebello et al.,
"Can Applications Recover from fsync Failures?", ATC 2020).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator

from miros_cache_net import limits
from miros_cache_net.errors import FileRefused, NoSpace
from miros_cache_net.store.regular import SAFELY, close_quietly

#: Mode of a document that did not exist before, less the umask, as `open` would make it.
NEW_FILE_MODE = 0o666
#: Where the kernel tells a process its umask (Linux).
PROCESS_STATUS = "/proc/self/status"
_WRITE_BITS = 0o222
_GROUP_BITS = 0o070


@contextlib.contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """A descriptor of the directory that `path` lies in."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def put_in_place(directory: int, name: str, text: bytes, *, mtime_ms: int, mode: int, group: int) -> tuple[int, int]:
    """Put `text`, already on the disk, in the place of the file `name` in `directory`.

    Returns a descriptor of the new inode, un-writable from birth, and the mode that it is to get once others may
    write: `mode`, without the group's bits where this user cannot give the file to `group` (-1: any).  The
    directory is not synced yet.  On any error the old file stands as it was and the temporary one is gone.
    """
    temporary = f".{name}.tmp-{os.getpid()}-{os.urandom(8).hex()}"
    writing = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o400, dir_fd=directory)
    fd = -1
    try:
        try:
            fd = _opened_to_read(directory, temporary, writing)
            mode = _with_group(writing, group, mode)
            os.fchmod(writing, mode & ~_WRITE_BITS)
            _write_all(writing, text)
            os.utime(writing, ns=(time.time_ns(), mtime_ms * 1_000_000))
            os.fsync(writing)
        finally:
            # while it has another name: who watches the document is woken by the renaming, and not once more by this
            os.close(writing)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        close_quietly(fd)
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    return fd, mode


def _opened_to_read(directory: int, temporary: str, writing: int) -> int:
    """A second descriptor of the file that is open as `writing`, whatever the umask made of its mode."""
    os.fchmod(writing, 0o400)
    fd = os.open(temporary, os.O_RDONLY | SAFELY, dir_fd=directory)
    if not os.path.samestat(os.fstat(fd), os.fstat(writing)):
        os.close(fd)
        raise FileRefused(f"{temporary}: exchanged while it was being written; who else may write its directory?")
    return fd


def new_file_mode() -> int:
    """The mode that this process's umask gives to a new file."""
    with contextlib.suppress(OSError), open(PROCESS_STATUS, "rb") as process_status:
        umask = re.search(rb"^Umask:\s*([0-7]+)$", process_status.read(), re.MULTILINE)
        if umask:
            return NEW_FILE_MODE & ~int(umask[1], 8)
    # elsewhere it can only be read by setting it, for all threads
    mask = os.umask(0o077)
    os.umask(mask)
    return NEW_FILE_MODE & ~mask


def sweep(path: str) -> None:
    """Remove temporary files that killed writers of this document left; no live one can exist now."""
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


def set_aside(path: str) -> str:
    """Move what stands at `path` to a name that says what it is, and return that name.

    Beyond `limits.SET_ASIDE_FILES` such files nothing is moved and `NoSpace` asks a person to look.
    """
    pattern = re.compile(rf"{re.escape(os.path.basename(path))}\.corrupt-.*")
    with os.scandir(os.path.dirname(path)) as entries:
        number = sum(1 for entry in entries if pattern.fullmatch(entry.name))
    if number >= limits.SET_ASIDE_FILES:
        raise NoSpace(f"{path}: {number} broken files were set aside already; look at them and remove them")
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = f"{path}.corrupt-{when}-{os.urandom(3).hex()}"
    os.rename(path, aside)
    return aside


def _with_group(fd: int, group: int, mode: int) -> int:
    if group in (-1, os.fstat(fd).st_gid):
        return mode
    try:
        os.fchown(fd, -1, group)
    except PermissionError:
        return mode & ~_GROUP_BITS  # what was for one group is not for another
    return mode


def _write_all(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        # the first write to a nearly full disk is short and no error; the next one fails
        view = view[os.write(fd, view) :]
