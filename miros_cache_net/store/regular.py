"""Opening a file safely: no links, no FIFOs."""

from __future__ import annotations

import os
import stat

from miros_cache_net.errors import HardLinkRefused, NotRegularRefused

#: Do not follow a link, do not leak into a child program, do not wait for the other end of a FIFO.
SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def close_quietly(fd: int) -> None:
    """Close a descriptor, -1 for none; the kernel frees it even if it reports an error."""
    if fd >= 0:
        try:  # noqa: SIM105 - hot path: every read of a changed file comes through here
            os.close(fd)
        except OSError:
            pass


def open_document(path: str | os.PathLike[str]) -> tuple[int, os.stat_result]:
    """A descriptor for reading, and the status of the open file.

    Raises `OSError`, `NotRegularRefused` or `HardLinkRefused`.
    """
    fd = os.open(path, os.O_RDONLY | SAFELY)
    try:
        return fd, checked(fd, path)
    except BaseException:
        os.close(fd)
        raise


def checked(fd: int, path: str | os.PathLike[str]) -> os.stat_result:
    """The status of the open file; raises `NotRegularRefused` or `HardLinkRefused`."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularRefused(f"{path}: not a regular file; name a file that only the cache uses")
    if status.st_nlink > 1:
        raise HardLinkRefused(f"{path}: it has {status.st_nlink} names (hard links); remove the others or copy it")
    return status
