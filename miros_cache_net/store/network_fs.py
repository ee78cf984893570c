"""A warning, once, about network file systems: locks and renames of other machines may not be visible there.

Only where the kernel lists its mounts (Linux, WSL); elsewhere there is no warning.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

MOUNTS = "/proc/self/mountinfo"
NETWORK_FILE_SYSTEMS: Final = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs"),
        *("gfs", "gfs2", "glusterfs", "lustre", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs"),
    )
)
_warned: set[str] = set()


def warn_if_network(path: str) -> None:
    """Log one warning per process for each directory on a network file system.  Never raises."""
    directory = os.path.dirname(path)
    if directory in _warned:
        return
    _warned.add(directory)
    kind = ""
    with contextlib.suppress(OSError, ValueError), open(MOUNTS, errors="replace") as mounts:
        kind = file_system_of(os.stat(directory).st_dev, mounts.read())
    if kind in NETWORK_FILE_SYSTEMS:
        from miros_cache_net.logs import module_log  # a program that logs nothing does not pay for it

        module_log(__name__).warning(
            "%s is on a network file system (%s): its locks may not exclude programs on other machines; "
            "put the cache on a local disk and let a CacheNode bring it to the other hosts",
            directory,
            kind,
        )


def file_system_of(device: int, mounts: str) -> str:
    """The type of the file system with that device number, from the text of ``/proc/self/mountinfo``; "" if unknown."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        if fields.split(" ", 3)[2:3] == [wanted]:
            return kind.split(" ", 1)[0]
    return ""
