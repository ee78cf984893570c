"""One link a host: the process that holds the bridge lock connects to RabbitMQ, the others follow.

A kernel lock on a file beside the cache file.  Its name holds broker, scope and key identity, so that nobody
follows a bridge into another fleet.  The kernel frees the lock when its holder dies, and one of the waiting
processes has it at once.  The bridge writes into the file whether its link stands; followers read that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_LINKED = b"linked\n"
_UNLINKED = b"alone!\n"


def bridge_lock_path(document: Path, identity: Iterable[str]) -> Path:
    """The lock file for `document` in the fleet that `identity` (brokers, exchange, scope, key id) describes."""
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:12]
    return document.with_name(f".{document.name.lstrip('.')}.bridge-{digest}.lock")


class BridgeLock:
    """Waits for the bridge lock on a thread of its own and calls `taken` (there) once this process has it."""

    def __init__(self, path: Path, taken: Callable[[], None]) -> None:
        self.path = path
        self._taken = taken
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._guard = threading.Lock()
        self._closed = False
        self._held = False

    @property
    def held(self) -> bool:
        """This process is the bridge."""
        return self._held

    @property
    def linked(self) -> bool:
        """The bridge of this host, whoever it is, has its link to the fleet."""
        with self._guard:
            return not self._closed and os.pread(self._fd, len(_LINKED), 0) == _LINKED

    def start(self) -> None:
        """Begin to wait.  Raises `OSError` where that is impossible."""
        threading.Thread(target=self._wait, name=f"bridge lock {self.path.name}", daemon=True).start()

    def set_linked(self, linked: bool) -> None:
        """The bridge says whether its link stands."""
        with self._guard:
            if self._held and not self._closed:
                os.pwrite(self._fd, _LINKED if linked else _UNLINKED, 0)

    def close(self) -> None:
        """Give the lock up, or stop waiting for it; the waiting thread ends as soon as it gets it."""
        self.set_linked(False)
        with self._guard:
            if self._held and not self._closed:
                os.close(self._fd)
            self._closed = True
            self._held = False

    def _wait(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        with self._guard:
            if self._closed:
                os.close(self._fd)
                return
            self._held = True
            os.pwrite(self._fd, _UNLINKED, 0)
        self._taken()
