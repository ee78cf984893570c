"""Opening the document and its lock file without being led elsewhere: no links, no FIFOs, no shared directories."""

from __future__ import annotations

import os
import stat

from miros_cache_net.errors import FileRefused, HardLinkRefused, NotRegularRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

#: Never through a link, never into a child program, never waiting for the other end of a FIFO.
SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


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


def open_lock_file(path: Path) -> int:
    """A descriptor of the lock file, which is made if it is not there.

    Who can open a lock file can hold it for ever, so only those may who can replace the document anyway: its
    owner, and the group where the directory lets the group write.  Raises as `open_document`, and `FileRefused`
    for a sticky directory.
    """
    directory = os.stat(path.parent)
    if directory.st_mode & stat.S_ISVTX:
        raise FileRefused(f"{path.parent}: a sticky directory is everybody's; put the cache in one of its own")
    flags = os.O_RDWR | SAFELY
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        fd = _made_lock_file(path, flags, directory)
    try:
        _checked(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _made_lock_file(path: Path, flags: int, directory: os.stat_result) -> int:
    mode = 0o660 if directory.st_mode & stat.S_IWGRP else 0o600
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return os.open(path, flags)
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
