"""What waits for the cache file in a chart: each request with its own payload, failures and place."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from miros_cache_net import limits
from miros_cache_net.store.changes import Change

_arrivals = itertools.count()


class Request:
    """One read (`change` is None) or one write, from the event that asked for it until it is served.

    quiet          a read that is not answered: it only has the file looked after
    failures       how often it found the file taken
    settled        served or given up: a re-post of it that is already in the queue means nothing any more
    arrival        its place among all requests
    cancel_repost  prevents the next re-post
    """

    def __init__(self, change: Change | None = None, *, quiet: bool = False) -> None:
        self.change = change
        self.quiet = quiet
        self.failures = 0
        self.settled = False
        self.arrival = next(_arrivals)
        self.cancel_repost: Callable[[], None] | None = None

    @property
    def signal_name(self) -> str:
        """The private event that carries it, and the state that serves it."""
        return "file_read" if self.change is None else "file_write"


class WaitingLine:
    """The requests of one kind that found the file taken, in the order in which they came; bounded."""

    def __init__(self) -> None:
        self._requests: dict[Request, None] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    def add(self, request: Request) -> bool:
        """Keep the request; False if the line is full."""
        if request not in self._requests and len(self._requests) >= limits.WAITING_REQUESTS:
            return False
        self._requests[request] = None
        return True

    def drop(self, request: Request) -> None:
        """The request cannot be served; the others may."""
        request.settled = True
        self._requests.pop(request, None)

    def first(self) -> Request | None:
        """Who waits longest."""
        return next(iter(self._requests), None)

    def take_with(self, request: Request) -> list[Request]:
        """All that wait and `request` itself, oldest first; their re-posts are cancelled, the line is empty."""
        taken = sorted({**self._requests, request: None}, key=lambda each: each.arrival)
        for each in taken:
            each.settled = True
            if each.cancel_repost is not None:
                each.cancel_repost()
        self._requests.clear()
        return taken

    def clear(self) -> int:
        """Forget all; how many they were."""
        number = len(self._requests)
        self._requests.clear()
        return number


class WaitingRoom:
    """The lines of reads and of writes."""

    def __init__(self) -> None:
        self.reads, self.writes = WaitingLine(), WaitingLine()

    def line_of(self, request: Request) -> WaitingLine:
        """Where that request waits."""
        return self.reads if request.change is None else self.writes

    def first(self) -> Request | None:
        """Who waits longest in either line."""
        waiting = [first for first in (self.reads.first(), self.writes.first()) if first is not None]
        return min(waiting, key=lambda each: each.arrival, default=None)

    def clear(self) -> tuple[int, int]:
        """Forget all; how many reads and writes they were."""
        return self.reads.clear(), self.writes.clear()
