"""Where the bridge of a host listens: a Unix socket in the document's directory, under a short name.

Whoever can put a socket there can replace the document anyway, and it is found across containers that share
the directory, as the lock is; an abstract name would be free for any user to take first.  A path too long for
a socket (108 bytes) is reached through a descriptor of its directory, which needs Linux's ``/proc``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
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

    def listen(self, mode: int, group: int) -> socket.socket:
        """For the holder of the lock: listen with these permissions, in the place of whoever did before."""
        listener = _unix_socket()
        try:
            with self._reachable_directory() as directory:
                path = f"{directory}/{self._name}"
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path + _NEW)
                _bind_closed(listener, path + _NEW)
                with contextlib.suppress(PermissionError):
                    os.chown(path + _NEW, -1, group, follow_symlinks=False)
                os.chmod(path + _NEW, mode)
                listener.listen(limits.HOST_BACKLOG)
                # atomic: whoever connects meets the old one or the new, and the new one listens already
                os.replace(path + _NEW, path)
        except BaseException:
            listener.close()
            raise
        return listener

    def connect(self) -> socket.socket:
        """A connection to whoever listens; never waits."""
        connection = _unix_socket()
        try:
            with self._reachable_directory() as directory:
                connection.connect(f"{directory}/{self._name}")
        except BaseException:
            connection.close()
            raise
        return connection

    def remove(self) -> None:
        """For the holder of the lock: nobody listens any more."""
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
    # on Linux the socket's file is born with the mode of its descriptor; elsewhere this is refused
    with contextlib.suppress(OSError):
        os.fchmod(listener.fileno(), 0o600)
    listener.bind(path)
