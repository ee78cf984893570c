"""The queue of one chart: takes events from any thread, never blocks a poster, never drops silently."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class ChartQueue:
    """What `miros` expects of a chart's queue, with a bound that is counted and told.

    `append` (from posters and from the fabric's thread) refuses events beyond `bound`: each is counted in
    `refused`, and `on_flood` is called once, at the first one; again only after the queue has been half
    empty in between.  `appendleft` and `append_always` (what the chart itself completes) are never refused.
    After `close` everything is dropped, counted in `late` and handed to `on_late`, until `reopen`.

    One place more is kept for what `replaces_all` says of that nothing of earlier ones like it will remain: only the
    newest has to come through, so it takes the place, and the older one that had it is what is refused.

    All methods may be called from any thread; only `wait` blocks.
    """

    def __init__(
        self,
        bound: int,
        on_flood: Callable[[], None],
        on_late: Callable[[Any], None],
        replaces_all: Callable[[Any], bool] = lambda _item: False,
    ) -> None:
        self.deque: deque[Any] = deque()
        self.bound = bound
        self.refused = 0
        self.late = 0
        self._on_flood = on_flood
        self._on_late = on_late
        self._replaces_all = replaces_all
        #: In the last place, behind the others; only while they are as many as may be.
        self._newest: Any = None
        self._closed = False
        self._flooded = False
        # One token for each event, and one for each wake(): a token too many costs a look, one too few an event.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        # Re-entrant: a signal handler may post while its own thread is in here.
        self._full = threading.RLock()

    def offer(self, item: Any) -> bool:
        """`append` without the call of `on_flood`; True if the caller has to make it."""
        if self._closed:
            return self._drop(item)
        if self._newest is None and len(self.deque) < self.bound:
            self.append_always(item)
            return False
        return self._offer_full(item)

    def append(self, item: Any) -> None:
        """Add at the end, or count the refusal."""
        if self.offer(item):
            self._on_flood()

    def append_always(self, item: Any) -> None:
        """Add at the end, beyond the bound too."""
        if self._closed:
            self._drop(item)
            return
        self.deque.append(item)
        self._tokens.put(None)

    def appendleft(self, item: Any) -> None:
        """Add at the front, beyond the bound too."""
        if self._closed:
            self._drop(item)
            return
        self.deque.appendleft(item)
        self._tokens.put(None)

    def popleft(self) -> Any:
        """Take the next event; IndexError if there is none."""
        item = self.deque.popleft()
        if self._newest is not None:
            with self._full:
                self._move_up()
        if self._flooded and len(self.deque) <= self.bound // 2:
            self._flooded = False
        return item

    def pop(self) -> Any:
        """Take the last event; IndexError if there is none."""
        return self.deque.pop()

    def wait(self, block: bool = True, timeout: float | None = None) -> None:
        """Sleep until something was added since the last `wait`; may wake for nothing.

        Raises `queue.Empty` if `block` is false or `timeout` (seconds) passes.
        """
        self._tokens.get(block, timeout)

    get = wait

    def wake(self) -> None:
        """Let `wait` return without an event."""
        self._tokens.put(None)

    def task_done(self) -> None:
        """Part of the interface; nobody joins this queue."""

    def clear(self) -> None:
        """Forget what waits."""
        self.deque.clear()
        self._newest = None
        self._flooded = False

    def close(self) -> None:
        """From here on drop what comes."""
        self._closed = True

    def reopen(self) -> None:
        """Take events again, beginning with none, if it was closed; else keep what waits."""
        if self._closed:
            self.clear()
            self._closed = False

    def waiting(self) -> list[Any]:
        """What waits, in its order."""
        with self._full:
            return [*self.deque] if self._newest is None else [*self.deque, self._newest]

    def qsize(self) -> int:
        return len(self.deque)

    len = qsize
    __len__ = qsize

    def __bool__(self) -> bool:
        return True

    def count_refused(self) -> None:
        """One more event was refused elsewhere on its way to this chart."""
        with self._full:
            self.refused += 1

    def _offer_full(self, item: Any) -> bool:
        replaces_all = self._replaces_all(item)
        with self._full:
            self._move_up()
            if self._newest is None and len(self.deque) < self.bound:
                self.append_always(item)
                return False
            first = self._newest is None
            if replaces_all:
                self._newest = item
                # a place may have become free since it was looked for
                self._move_up()
            return False if replaces_all and first else self._refuse()

    def _move_up(self) -> None:
        if self._newest is not None and len(self.deque) < self.bound:
            item, self._newest = self._newest, None
            self.append_always(item)

    def _refuse(self) -> bool:
        self.refused += 1
        first = not self._flooded
        self._flooded = True
        return first

    def _drop(self, item: Any) -> bool:
        with self._full:
            self.late += 1
        self._on_late(item)
        return False
