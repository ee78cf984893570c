"""What waits for the cache file in a chart: each request with its own payload, failures and place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.events import CACHE_FILE_READ, CACHE_FILE_WRITE
from miros_cache_net.store.changes import Change, Destroy, Write

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

    def settle(self) -> None:
        """It is served or given up: nothing of it is to come any more."""
        self.settled = True
        if self.cancel_repost is not None:
            self.cancel_repost()

    @property
    def replaces_all(self) -> bool:
        """It leaves nothing of what was written before it."""
        return leaves_nothing_of_earlier(self.change)


def leaves_nothing_of_earlier(change: Change | None) -> bool:
    """A destruction, or a whole write; not one that counts from another moment."""
    return isinstance(change, Destroy) or (isinstance(change, Write) and change.began is None)


class WaitingLine:
    """The requests of one kind that found the file taken, in the order in which they came; bounded."""

    def __init__(self) -> None:
        self._requests: dict[Request, None] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    def add(self, request: Request) -> Request | None:
        """Keep the request; what a full line gives up for it: the oldest that it leaves nothing of, or itself."""
        given_up = None
        if request not in self._requests and len(self._requests) >= limits.WAITING_REQUESTS:
            given_up = self._made_meaningless_by(request)
            if given_up is None:
                return request
            self.drop(given_up)
        self._requests[request] = None
        return given_up

    def drop(self, request: Request) -> None:
        """The request cannot be served; the others may."""
        request.settle()
        self._requests.pop(request, None)

    def _made_meaningless_by(self, request: Request) -> Request | None:
        return next((each for each in self._requests if each.replaces_all), None) if request.replaces_all else None

    def first(self) -> Request | None:
        """Who waits longest."""
        return next(iter(self._requests), None)

    def take_with(self, request: Request) -> list[Request]:
        """All that wait and `request` itself, oldest first; their re-posts are cancelled, the line is empty."""
        taken = sorted({**self._requests, request: None}, key=lambda each: each.arrival)
        for each in taken:
            each.settle()
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

    def asked_besides(self, events: Iterable[Event]) -> tuple[int, int]:
        """How many reads and writes these events ask for, re-posts of who waits here left out."""
        asked = [
            each.signal_name
            for each in events
            if not (isinstance(each.payload, Request) and each.payload in self.line_of(each.payload))
        ]
        return (
            asked.count(CACHE_FILE_READ) + asked.count("file_read"),
            asked.count(CACHE_FILE_WRITE) + asked.count("file_write"),
        )
