"""Opening a lock file, and making one whose access rights are complete before it gets its name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

from miros_cache_net import limits
from miros_cache_net.errors import FileRefused
from miros_cache_net.store.paths import opened_directory
from miros_cache_net.store.regular import SAFELY, checked
from miros_cache_net.store.rights import lock_file_rights


def open_lock_file(path: str) -> int:
    """A descriptor of the lock file, which is created if it is missing.

    A user who can open a lock file can hold its lock forever, so only those who can replace the document anyway may
    open it (see `store.rights`).  Raises as `open_document`, and `FileRefused` for a sticky directory.
    """
    directory = os.path.dirname(path)
    if os.stat(directory).st_mode & stat.S_ISVTX:
        raise FileRefused(f"{directory}: a sticky directory is shared by all users; put the cache in one of its own")
    fd = _opened_or_made(path)
    try:
        checked(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _opened_or_made(path: str) -> int:
    deadline_s = time.monotonic() + limits.SETTLE_S
    while True:
        try:
            return os.open(path, os.O_RDWR | SAFELY)
        except FileNotFoundError:
            try:
                return _made(path)
            except FileExistsError:
                continue  # another process was faster
        except PermissionError:
            # While the file is empty, the process that made it may not have set its group yet.
            if os.lstat(path).st_size or time.monotonic() > deadline_s:
                raise
            time.sleep(limits.SETTLE_S / 50)


def _made(path: str) -> int:
    name = os.path.basename(path)
    with opened_directory(path) as directory:
        fd = _born_ready(directory, name)
        return fd if fd >= 0 else _made_in_place(directory, name)


def _born_ready(directory: int, name: str) -> int:
    """Make the file without a name and link it last, so that a process that dies half-way leaves nothing behind.

    Returns -1 if that is not possible: not on Linux, or not on this file system.  Raises `FileExistsError`.
    """
    fd = -1
    try:
        fd = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=directory)
        lock_file_rights(directory).give(fd)
        # With a descriptor of the directory; otherwise Python does not follow the link.
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory, follow_symlinks=True)
        made, fd = fd, -1
        return made
    except FileExistsError:
        raise
    except (AttributeError, NotImplementedError, OSError):
        return -1
    finally:
        if fd >= 0:
            os.close(fd)


def _made_in_place(directory: int, name: str) -> int:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=directory)
    try:
        lock_file_rights(directory).give(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            # Do not remove a file that another process already uses.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=directory)
        os.close(fd)
        raise
    return fd
