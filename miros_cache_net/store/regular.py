"""Opening the document and its lock file without being led elsewhere: no links, no FIFOs, no shared directories."""

from __future__ import annotations

import os
import stat
import time

from miros_cache_net import limits
from miros_cache_net.errors import FileRefused, HardLinkRefused, NotRegularRefused

#: Never through a link, never into a child program, never waiting for the other end of a FIFO.
SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def close_quietly(fd: int) -> None:
    """Close a descriptor, -1 for none; the kernel frees it, whatever it reports."""
    if fd >= 0:
        try:  # noqa: SIM105 - a reader's every look at a changed file comes through here
            os.close(fd)
        except OSError:
            pass


def open_document(path: str | os.PathLike[str]) -> tuple[int, os.stat_result]:
    """A descriptor for reading, and the status of what is open.

    Raises `OSError`, `NotRegularRefused` or `HardLinkRefused`.
    """
    fd = os.open(path, os.O_RDONLY | SAFELY)
    try:
        return fd, _checked(fd, path)
    except BaseException:
        os.close(fd)
        raise


def open_lock_file(path: str) -> int:
    """A descriptor of the lock file, which is made if it is not there.

    Who can open a lock file can hold it for ever, so only those may who can replace the document anyway: its
    owner, and the group where the directory lets the group write.  Raises as `open_document`, and `FileRefused`
    for a sticky directory.
    """
    name = os.path.dirname(path)
    directory = os.stat(name)
    if directory.st_mode & stat.S_ISVTX:
        raise FileRefused(f"{name}: a sticky directory is everybody's; put the cache in one of its own")
    fd = _opened_or_made(path, directory)
    try:
        _checked(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _opened_or_made(path: str, directory: os.stat_result) -> int:
    deadline_s = time.monotonic() + limits.SETTLE_S
    while True:
        try:
            return os.open(path, os.O_RDWR | SAFELY)
        except FileNotFoundError:
            try:
                return _made_lock_file(path, directory)
            except FileExistsError:
                continue  # somebody was quicker
        except PermissionError:
            # while it is empty its maker may be about to give it to the group
            if os.lstat(path).st_size or time.monotonic() > deadline_s:
                raise
            time.sleep(limits.SETTLE_S / 50)


def _made_lock_file(path: str, directory: os.stat_result) -> int:
    mode = 0o660 if directory.st_mode & stat.S_IWGRP else 0o600
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFELY, mode)
    try:
        if mode & stat.S_IWGRP:
            _give_to_group(fd, mode, directory.st_gid)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _give_to_group(fd: int, mode: int, group: int) -> None:
    if os.fstat(fd).st_gid != group:
        try:
            os.fchown(fd, -1, group)
        except PermissionError:
            return
    # the umask has taken the group's bits away
    os.fchmod(fd, mode)


def _checked(fd: int, path: str | os.PathLike[str]) -> os.stat_result:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularRefused(f"{path}: it is no regular file; name a file of its own")
    if status.st_nlink > 1:
        raise HardLinkRefused(f"{path}: it has {status.st_nlink} names (hard links); remove the others or copy it")
    return status
