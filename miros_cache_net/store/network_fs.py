"""Network file systems: locks and renames of other machines may not be seen, so they are warned about, once.

Only where the kernel lists its mounts (Linux, WSL); elsewhere nothing is said.
"""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    """Log one warning in this process for each directory that lies on a network file system.  Never raises."""
    directory = os.path.dirname(path)
    if directory in _warned:
        return
    _warned.add(directory)
    kind = ""
    with contextlib.suppress(OSError, ValueError), open(MOUNTS, errors="replace") as mounts:
        kind = file_system_of(os.stat(directory).st_dev, mounts.read())
    if kind in NETWORK_FILE_SYSTEMS:
        import logging  # a program without trouble pays nothing for it

        logging.getLogger(__name__).warning(
            "%s lies on a network file system (%s): programs on other machines may not be excluded; "
            "put the cache on a local disk, a CacheNode brings it to the other hosts",
            directory,
            kind,
        )


def file_system_of(device: int, mounts: str) -> str:
    """The type of the file system with that device number, as ``/proc/self/mountinfo`` has it; "" if unknown."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        if fields.split(" ", 3)[2:3] == [wanted]:
            return kind.split(" ", 1)[0]
    return ""
