"""A forked child must not keep a link's sockets: the broker would think a dead parent alive and send it requests.

Sockets are identified by descriptor and inode, because TLS moves the descriptor to another object.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

_guard = threading.Lock()
_sockets: dict[int, int] = {}


def remember(link_socket: socket.socket) -> None:
    """Close the socket in every forked child, for as long as it is open here."""
    fd = link_socket.fileno()
    with _guard:
        for known in [known for known, inode in _sockets.items() if _inode(known) != inode]:
            del _sockets[known]
        _sockets[fd] = _inode(fd)


def _inode(fd: int) -> int:
    with contextlib.suppress(OSError):
        return os.fstat(fd).st_ino
    return -1


def _in_child() -> None:
    _guard.release()
    for fd, inode in _sockets.items():
        if _inode(fd) == inode:
            os.close(fd)
    _sockets.clear()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_in_child)
