"""The requests that wait for the cache file in a chart, each with its own payload, failures and place."""

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

    over           as in `AddressedChange`
    quiet          a read without an answer: it only has the file repaired or adopted
    failures       how often it found the file taken
    settled        served or given up: ignore a re-post of it that is already in the queue
    arrival        its place among all requests
    cancel_repost  prevents the next re-post
    """

    def __init__(
        self,
        change: Change | None = None,
        *,
        quiet: bool = False,
        over: Callable[[Exception | None], None] | None = None,
    ) -> None:
        self.change = change
        self.over = over
        self.quiet = quiet
        self.failures = 0
        self.settled = False
        self.arrival = next(_arrivals)
        self.cancel_repost: Callable[[], None] | None = None

    @property
    def signal_name(self) -> str:
        """The name of the private event that carries the request, and of the state that serves it."""
        return "file_read" if self.change is None else "file_write"

    def settle(self) -> None:
        """Mark the request as served or given up, and cancel its re-post."""
        self.settled = True
        if self.cancel_repost is not None:
            self.cancel_repost()

    def tell_over(self, error: Exception | None) -> None:
        """Tell who asked, if they want to know, that it was served, or the error that prevents it."""
        if self.over is not None:
            self.over(error)

    @property
    def replaces_all(self) -> bool:
        """Whether it makes earlier writes moot."""
        return leaves_nothing_of_earlier(self.change)


def leaves_nothing_of_earlier(change: Change | None) -> bool:
    """True for a destroy or a whole write, but not for a discovery's result, which counts from its beginning."""
    return isinstance(change, Destroy) or (isinstance(change, Write) and change.began is None)


class WaitingLine:
    """The requests of one kind that found the file taken, in order of arrival; at most `places` of them."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._requests: dict[Request, None] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    def add(self, request: Request) -> Request | None:
        """Keep the request; returns the one that a full line gives up: the oldest that it makes moot, or itself."""
        given_up = None
        if request not in self._requests and len(self._requests) >= self._places:
            given_up = self._made_meaningless_by(request)
            if given_up is None:
                return request
            self.drop(given_up)
        self._requests[request] = None
        return given_up

    def drop(self, request: Request) -> None:
        """Remove a request that cannot be served."""
        request.settle()
        self._requests.pop(request, None)

    def _made_meaningless_by(self, request: Request) -> Request | None:
        return next((each for each in self._requests if each.replaces_all), None) if request.replaces_all else None

    def first(self) -> Request | None:
        """The request that has waited longest."""
        return next(iter(self._requests), None)

    def take_with(self, request: Request) -> list[Request]:
        """Take all waiting requests and `request` itself, oldest first; cancels their re-posts and empties the line."""
        taken = sorted({**self._requests, request: None}, key=lambda each: each.arrival)
        for each in taken:
            each.settle()
        self._requests.clear()
        return taken

    def clear(self) -> int:
        """Discard all requests; returns their number."""
        number = len(self._requests)
        self._requests.clear()
        return number


class WaitingRoom:
    """The two lines: of reads and of writes."""

    def __init__(self) -> None:
        self.reads, self.writes = WaitingLine(limits.WAITING_REQUESTS), WaitingLine(limits.WAITING_REQUESTS)

    def line_of(self, request: Request) -> WaitingLine:
        """The line in which that request waits."""
        return self.reads if request.change is None else self.writes

    def first(self) -> Request | None:
        """The request that has waited longest in either line."""
        waiting = [first for first in (self.reads.first(), self.writes.first()) if first is not None]
        return min(waiting, key=lambda each: each.arrival, default=None)

    def clear(self) -> tuple[int, int]:
        """Discard all requests; returns the numbers of reads and writes."""
        return self.reads.clear(), self.writes.clear()

    def asked_besides(self, events: Iterable[Event]) -> tuple[int, int]:
        """How many reads and writes these events ask for, without re-posts of requests that wait here."""
        asked = [
            each.signal_name
            for each in events
            if not (isinstance(each.payload, Request) and each.payload in self.line_of(each.payload))
        ]
        return (
            asked.count(CACHE_FILE_READ) + asked.count("file_read"),
            asked.count(CACHE_FILE_WRITE) + asked.count("file_write"),
        )
