"""One end of a connection through the host's socket: it never blocks, and buffers unsent bytes."""

from __future__ import annotations

import socket
import time
from typing import Final

from miros_cache_net.host.messages import Frames

_CHUNK: Final = 64 * 1024


class Channel:
    """A connected, non-blocking socket.  Belongs to one thread.

    waiting        number of bytes that the kernel has not accepted yet
    stalled_since  the last progress while bytes are waiting (monotonic seconds), None if none are waiting
    """

    def __init__(self, connection: socket.socket, most_bytes_in: int) -> None:
        self.connection = connection
        self.stalled_since: float | None = None
        self._frames = Frames(most_bytes_in)
        self._out = bytearray()

    @property
    def waiting(self) -> int:
        return len(self._out)

    def fileno(self) -> int:
        return self.connection.fileno()

    def receive(self) -> list[bytes] | None:
        """Bodies of the messages received; None: the other end closed the connection.  Raises `HostProtocolError`."""
        try:
            data = self.connection.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        return self._frames.feed(data) if data else None

    def send(self, data: bytes) -> None:
        """Send or buffer a message; raises `OSError` if the other end is gone."""
        self._out += data
        self.flush()

    def flush(self) -> None:
        """Send as many buffered bytes as the kernel accepts; raises `OSError` if the other end is gone."""
        while self._out:
            try:
                sent = self.connection.send(memoryview(self._out)[:_CHUNK])
            except (BlockingIOError, InterruptedError):
                self.stalled_since = time.monotonic() if self.stalled_since is None else self.stalled_since
                return
            del self._out[:sent]
            self.stalled_since = time.monotonic()
        self.stalled_since = None

    def close(self) -> None:
        self.connection.close()
