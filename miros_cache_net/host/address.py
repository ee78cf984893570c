"""The address at which a host's bridge listens: a Unix socket in the document's directory, under a short name.

A user who can put a socket there can replace the document anyway, and containers that share the directory find it,
as they find the lock; an abstract name could be taken first by any user.  A path too long for a socket (108 bytes)
is reached through a descriptor of its directory, which needs Linux's ``/proc``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from miros_cache_net import limits

_NEW = ".new"


class SocketAddress:
    """The socket that belongs to a bridge lock; all methods raise `OSError`."""

    def __init__(self, lock: Path) -> None:
        digest = hashlib.sha256(os.fsencode(lock.name)).hexdigest()[:12]
        self._directory = os.fspath(lock.parent)
        self._name = f".bridge-{digest}.sock"
        self.path = lock.with_name(self._name)

    def listen(self, mode: int, group: int, owner: int = -1) -> socket.socket:
        """For the holder of the lock: listen with these permissions, in place of the previous bridge.

        owner  set only if root listens
        """
        listener = _unix_socket()
        try:
            with self._reachable_directory() as directory:
                path = f"{directory}/{self._name}"
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path + _NEW)
                _bind_closed(listener, path + _NEW)
                _give(path + _NEW, mode, group, owner)
                listener.listen(limits.HOST_BACKLOG)
                # Atomic: a client connects to the old socket or to the new one, which listens already.
                os.replace(path + _NEW, path)
        except BaseException:
            listener.close()
            raise
        return listener

    def connect(self) -> socket.socket:
        """A connection to the listening bridge; never blocks."""
        connection = _unix_socket()
        try:
            with self._reachable_directory() as directory:
                connection.connect(f"{directory}/{self._name}")
        except BaseException:
            connection.close()
            raise
        return connection

    def remove(self) -> None:
        """For the holder of the lock: remove the socket."""
        with self._reachable_directory() as directory, contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{self._name}")

    @contextlib.contextmanager
    def _reachable_directory(self) -> Iterator[str]:
        longest = f"{self._directory}/{self._name}{_NEW}"
        if len(os.fsencode(longest)) <= limits.SOCKET_PATH_BYTES:
            yield self._directory
            return
        fd = os.open(self._directory, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)


def _unix_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def _bind_closed(listener: socket.socket, path: str) -> None:
    # On Linux the socket's file gets the mode of its descriptor; other systems refuse this.
    with contextlib.suppress(OSError):
        os.fchmod(listener.fileno(), 0o600)
    listener.bind(path)


def _give(path: str, mode: int, group: int, owner: int) -> None:
    """Set the rights of the new socket, but not of a file that another program has put in its place."""
    if not hasattr(os, "O_PATH"):  # macOS cannot open a socket's file
        with contextlib.suppress(OSError):
            os.chown(path, -1, group, follow_symlinks=False)
        os.chmod(path, mode)
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
            raise FileExistsError(errno.EEXIST, "replaced while it was being made", path)
        itself = f"/proc/self/fd/{fd}"
        with contextlib.suppress(OSError):
            os.chown(itself, -1, group)
        os.chmod(itself, mode)
        if status.st_uid == 0 and owner > 0:
            with contextlib.suppress(OSError):
                os.chown(itself, owner, -1)
    finally:
        os.close(fd)
