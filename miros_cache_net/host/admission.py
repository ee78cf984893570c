"""Which users' processes may talk over the host's socket: those that may hold its bridge lock."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

#: A Linux option that Python does not name.  Python's limit for `getsockopt` truncates its result to 256 groups.
_SO_PEERGROUPS: Final = 59
_GROUPS_BYTES: Final = 1024


class Peer(NamedTuple):
    """The kernel's information about the process at the other end."""

    uid: int
    groups: frozenset[int]


@dataclass(frozen=True)
class Admission:
    """The process's own user, root, the lock file's owner and, if its mode admits the group, that group."""

    users: frozenset[int]
    group: int | None

    @classmethod
    def as_for(cls, lock: os.stat_result) -> Admission:
        """The users whom the lock file's mode admits."""
        shared = lock.st_mode & (stat.S_IRGRP | stat.S_IWGRP)
        return cls(frozenset((0, os.geteuid(), lock.st_uid)), lock.st_gid if shared else None)

    def admits(self, connection: socket.socket) -> bool:
        """Whether the other end is admitted; if the kernel does not identify it (macOS), the socket's mode decides."""
        peer = peer_of(connection)
        return peer is None or peer.uid in self.users or self.group in peer.groups


def peer_of(connection: socket.socket) -> Peer | None:
    """User and groups of the other end's process; None if the kernel does not identify it."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, uid, gid = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, option, 12))
    groups = {gid}
    with contextlib.suppress(OSError):
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
        groups.update(struct.unpack(f"{len(raw) // 4}I", raw))
    return Peer(uid, frozenset(groups))
