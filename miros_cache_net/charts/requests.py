"""What waits for the cache file in a chart: each request with its own payload, failures and place."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miros_cache_net import limits
from miros_cache_net.charts import registry
from miros_cache_net.errors import PayloadError
from miros_cache_net.store.changes import AddressedChange, Change, write_of

_arrivals = itertools.count()


@dataclass(eq=False)
class Request:
    """One read (`change` is None) or one write, from the event that asked for it until it is served.

    `quiet` reads are not answered: they only have the file looked after.
    """

    change: Change | None = None
    quiet: bool = False
    failures: int = 0
    arrival: int = field(default_factory=lambda: next(_arrivals))
    cancel_repost: Callable[[], None] | None = None


class WaitingLine:
    """The requests of one kind that found the file taken, in the order in which they came; bounded."""

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> bool:
        """Keep the request; False if the line is full."""
        if request not in self._requests:
            if len(self._requests) >= limits.WAITING_REQUESTS:
                return False
            self._requests.append(request)
        return True

    def drop(self, request: Request) -> None:
        """The request cannot be served; the others may."""
        if request in self._requests:
            self._requests.remove(request)

    def first(self) -> Request | None:
        return self._requests[0] if self._requests else None

    def take_with(self, request: Request) -> list[Request]:
        """All that wait and `request` itself, oldest first; their re-posts are cancelled, the line is empty."""
        taken = sorted({*self._requests, request}, key=lambda each: each.arrival)
        for each in taken:
            if each.cancel_repost is not None:
                each.cancel_repost()
        self._requests.clear()
        return taken


@dataclass(frozen=True)
class Addressee:
    """Whether the payload of an event is meant for a chart; `error` is what that chart has to report."""

    mine: bool
    error: str = ""
    ambiguous: bool = False


def addressee(file_name: str | None, chart: registry.FileChart, posted: bool) -> Addressee:
    """Is an event that names `file_name` (None: no file) for `chart`?  `posted`: directly to it."""
    default = registry.default_chart()
    if file_name is None:
        return Addressee(posted or chart is default)
    if posted:
        fits = registry.fits_path(file_name, chart.path)
        return Addressee(fits, "" if fits else f"{file_name!r} is not the file of this chart, {chart.path}")
    fitting = registry.fitting(file_name)
    if not fitting:
        return Addressee(False, f"no chart of this process guards {file_name!r}" if chart is default else "")
    if len(fitting) > 1:
        paths = ", ".join(str(each.path) for each in fitting)
        error = f"the base name {file_name!r} fits {paths}; give the path" if fitting[0] is chart else ""
        return Addressee(False, error, ambiguous=True)
    return Addressee(fitting[0] is chart)


def parse_write(payload: Any) -> tuple[str | None, Callable[[], Change]]:
    """The file name in the payload of `CACHE_FILE_WRITE` (None: a bare dict), and how to make its change.

    Raises `PayloadError` where the payload is neither a mapping nor has ``json`` and ``file_name``; making
    the change raises it where the contents are no document.
    """
    if isinstance(payload, AddressedChange):
        return payload.file_path, lambda: payload.change
    if isinstance(payload, dict):
        return None, lambda: write_of(payload)
    contents, name = getattr(payload, "json", None), getattr(payload, "file_name", None)
    if contents is None or not isinstance(name, (str, Path)):
        raise PayloadError(
            f"CACHE_FILE_WRITE wants a dict or CacheWritePayload(json, file_name), not {type(payload).__name__}"
        )
    return os.fspath(name), lambda: write_of(contents)
