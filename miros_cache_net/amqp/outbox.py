"""Queue of publications from any thread to the link's thread: bounded, counted, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from miros_cache_net import limits
from miros_cache_net.amqp.link import Publication

Done = Callable[[bool], None]


class Outbox:
    """Thread-safe.  A publication counts from `hand_over` to `settle`: waiting, or sent and not yet confirmed."""

    def __init__(
        self, messages: int = limits.PUBLISH_BACKLOG, message_bytes: int = limits.PUBLISH_BACKLOG_BYTES
    ) -> None:
        self._most_messages = messages
        self._most_bytes = message_bytes
        self._lock = threading.Lock()
        self._waiting: deque[Publication] = deque()
        self._refused: deque[Done] = deque()
        self._unsettled = 0
        self._unsettled_bytes = 0
        self._closed = False
        self._woken = False

    def hand_over(self, publication: Publication) -> bool:
        """Queue `publication`; True if the link's thread must be woken.

        Beyond the bounds its body is dropped and only its `done` kept, for `refused`.
        After `close` its ``done(False)`` is called at once, on the calling thread.
        """
        with self._lock:
            if not self._closed:
                if self._fits(len(publication.body)):
                    self._waiting.append(publication)
                    self._unsettled += 1
                    self._unsettled_bytes += len(publication.body)
                elif publication.done is not None:
                    self._refused.append(publication.done)
                wake, self._woken = not self._woken, True
                return wake
        if publication.done is not None:
            publication.done(False)
        return False

    def awake(self) -> None:
        """The link's thread is about to drain the queue; the next `hand_over` must wake it again."""
        with self._lock:
            self._woken = False

    def take(self) -> Publication | None:
        """Remove and return the oldest waiting publication, if any."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def refused(self) -> Done | None:
        """Remove and return the `done` of one that did not fit, if any."""
        with self._lock:
            return self._refused.popleft() if self._refused else None

    def settle(self, publication: Publication) -> None:
        """A taken publication is confirmed or lost; free its room."""
        with self._lock:
            self._unsettled -= 1
            self._unsettled_bytes -= len(publication.body)

    def close(self) -> None:
        """Accept nothing more; what is queued can still be taken."""
        with self._lock:
            self._closed = True

    def fail_all(self) -> None:
        """Close, and call ``done(False)`` for all that wait, on the calling thread."""
        self.close()
        while (publication := self.take()) is not None:
            self.settle(publication)
            if publication.done is not None:
                publication.done(False)
        while (done := self.refused()) is not None:
            done(False)

    @property
    def unsettled(self) -> int:
        """Publications waiting or unconfirmed."""
        with self._lock:
            return self._unsettled

    def _fits(self, size: int) -> bool:
        room = self._unsettled < self._most_messages
        return room and (self._unsettled == 0 or self._unsettled_bytes + size <= self._most_bytes)
