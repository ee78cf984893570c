"""A document's successive states, for programs that iterate over them in a loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from miros_cache_net.clock import Clock
from miros_cache_net.errors import DocumentError
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.watch import FileWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Changes:
    """An iterator over a document's states from its construction on; see `Cache.changes`.

    For one thread; `close` may be called from any.  If states follow each other faster than the loop, it sees only the
    last.  A file without a document (because a foreign program is writing it) is skipped.

    read       returns the current state; its `StoreError` reaches the caller of `next`
    timeout_s  after how many seconds the iteration ends; None: never
    """

    def __init__(
        self, path: Path, read: Callable[[], CacheReadPayload], clock: Clock, timeout_s: float | None = None
    ) -> None:  # fmt: skip
        self._read, self._clock = read, clock
        self._deadline_s = None if timeout_s is None else clock.monotonic_s() + timeout_s
        self._bell = _Bell()
        self._watch = FileWatch(path, self._bell.ring)
        # After the watch has started, so that no change from here on is missed.
        state = self._state()
        self._version = None if state is None else state.version

    def __iter__(self) -> Changes:
        return self

    def __next__(self) -> CacheReadPayload:
        while not self._bell.closed:
            rung = self._bell.rung
            state = self._state()
            if state is not None and state.version != self._version:
                self._version = state.version
                return state
            left_s = None if self._deadline_s is None else self._deadline_s - self._clock.monotonic_s()
            if left_s is not None and left_s <= 0:
                self.close()
                break
            self._bell.wait(rung, left_s)
        raise StopIteration

    def close(self) -> None:
        """End the iteration, also for a thread that is waiting in it."""
        self._bell.close()
        self._watch.close()

    def forked(self) -> None:
        """In a forked child: end it without the lock, which a parent thread may hold; the parent keeps the watch."""
        self._bell.closed = True

    def __enter__(self) -> Changes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()

    def __del__(self) -> None:
        # Needed for a loop that was left by `break`.
        if getattr(self, "_watch", None) is not None and not self._bell.closed:
            self.close()

    def _state(self) -> CacheReadPayload | None:
        try:
            return self._read()
        except DocumentError:
            return None


class _Bell:
    """Counts change notices.  Separate from the iterator, which the watch's thread must not keep alive."""

    def __init__(self) -> None:
        self._rings = threading.Condition()
        self.rung = 0
        self.closed = False

    def ring(self) -> None:
        with self._rings:
            self.rung += 1
            self._rings.notify_all()

    def wait(self, rung: int, timeout_s: float | None) -> None:
        """Wait until it has been rung more than `rung` times, it is closed, or the time is up."""
        with self._rings:
            self._rings.wait_for(lambda: self.closed or self.rung != rung, timeout_s)

    def close(self) -> None:
        with self._rings:
            self.closed = True
            self._rings.notify_all()
