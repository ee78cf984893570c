"""A chart's queue: accepts events from any thread, never blocks a poster, and never drops an event silently."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from miros_cache_net.observe.families import CHART_EVENTS_LATE, CHART_EVENTS_REFUSED
from miros_cache_net.observe.registry import PROCESS, Counter

_ALL_REFUSED: Final = PROCESS.counter(CHART_EVENTS_REFUSED)
_ALL_LATE: Final = PROCESS.counter(CHART_EVENTS_LATE)


class ChartQueue:
    """The queue that `miros` expects of a chart, with a bound; refusals are counted and reported.

    `append` (called by posters and by the fabric's thread) refuses events beyond `bound`: each is counted in
    `refused`, and `on_flood` is called at the first one, and again only after the queue has been half empty in
    between.  `appendleft` and `append_always` (for the chart's own events) never refuse.  After `close` every event is
    dropped, counted in `late` and passed to `on_late`, until `reopen`.

    One extra slot is reserved for the newest event that makes earlier ones of its kind moot (`replaces_all`).  The
    newest takes the slot, and the older event that had it is refused.

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
        self._refused, self._late = Counter(), Counter()
        self._on_flood = on_flood
        self._on_late = on_late
        self._replaces_all = replaces_all
        #: The event in the extra slot, behind the others; only while the queue is full.
        self._newest: Any = None
        self._closed = False
        self._flooded = False
        # One token per event and per wake(): a surplus token costs a needless wake-up, a missing one an event.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        # Re-entrant: a signal handler may post while its own thread is in here.
        self._full = threading.RLock()

    def offer(self, item: Any) -> bool:
        """As `append`, but returns True if the caller has to call `on_flood`."""
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

    @property
    def refused(self) -> int:
        """How many events found no place."""
        return self._refused.value

    @property
    def late(self) -> int:
        """How many events came after `close`."""
        return self._late.value

    def wait(self, block: bool = True, timeout: float | None = None) -> None:
        """Sleep until an event has been added since the last `wait`; may wake for nothing.

        Raises `queue.Empty` if `block` is false or `timeout` (seconds) passes.
        """
        self._tokens.get(block, timeout)

    get = wait

    def wake(self) -> None:
        """Let `wait` return without an event."""
        self._tokens.put(None)

    def task_done(self) -> None:
        """Part of the interface; nothing joins this queue."""

    def clear(self) -> None:
        """Discard the waiting events."""
        self.deque.clear()
        self._newest = None
        self._flooded = False

    def close(self) -> None:
        """Drop all events from now on."""
        self._closed = True

    def reopen(self) -> None:
        """Accept events again, starting empty, if the queue was closed; otherwise keep the waiting events."""
        if self._closed:
            self.clear()
            self._closed = False

    def waiting(self) -> list[Any]:
        """The waiting events, in order."""
        with self._full:
            return [*self.deque] if self._newest is None else [*self.deque, self._newest]

    def qsize(self) -> int:
        return len(self.deque)

    len = qsize
    __len__ = qsize

    def __bool__(self) -> bool:
        return True

    def count_refused(self) -> None:
        """Count an event that was refused elsewhere on its way to this chart."""
        self._refused.add()
        _ALL_REFUSED.add()

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
                # A slot may have become free since the check.
                self._move_up()
            return False if replaces_all and first else self._refuse()

    def _move_up(self) -> None:
        if self._newest is not None and len(self.deque) < self.bound:
            item, self._newest = self._newest, None
            self.append_always(item)

    def _refuse(self) -> bool:
        self.count_refused()
        first = not self._flooded
        self._flooded = True
        return first

    def _drop(self, item: Any) -> bool:
        self._late.add()
        _ALL_LATE.add()
        self._on_late(item)
        return False
