"""The events that subscribers of a cache file get: one answer per read, and every change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from miros.event import Event

from miros_cache_net.cache_chart.requests import Request
from miros_cache_net.clock import Clock
from miros_cache_net.events import event
from miros_cache_net.store.snapshot import Snapshot


class Answers:
    """Publishes one chart's answers and changes.  Use it only on that chart's thread, to which `publish` belongs.

    tells_changes  whether changes are published too, not only answers
    """

    def __init__(
        self,
        path: str,
        signal_name: str,
        *,
        clock: Clock,
        connected: Callable[[], bool],
        tells_changes: bool,
        publish: Callable[[Event], None],
    ) -> None:
        self._path, self._signal_name, self._clock = path, signal_name, clock
        self._connected, self._tells_changes, self._publish = connected, tells_changes, publish
        self._told = "", False

    def begin_with(self, snapshot: Snapshot) -> None:
        """Take this snapshot as known, without publishing it."""
        self._told = snapshot.face.version, False

    def answer(self, requests: Sequence[Request], snapshot: Snapshot) -> None:
        """Answer each request, and publish the snapshot if it is new."""
        for request in requests:
            if not request.quiet:
                self._tell(snapshot)
        self.tell_if_new(snapshot)

    def tell_if_new(self, snapshot: Snapshot) -> None:
        """Publish the snapshot if its document or `connected` has changed since the last event."""
        if self._tells_changes and (snapshot.face.version, self._connected()) != self._told:
            self._tell(snapshot)

    def _tell(self, snapshot: Snapshot) -> None:
        self._told = snapshot.face.version, self._connected()
        payload = snapshot.payload(self._path, self._clock.wall_ms(), connected=self._told[1])
        cache = event(self._signal_name, payload)
        cache.snapshot = snapshot
        self._publish(cache)


def handed_on(cache: Event) -> Snapshot | None:
    """The snapshot behind a ``CACHE``, as it was stored or read, so that the receiver need not read the file again.

    It is not a field of the payload, because users unpack that.  None if no file chart of this process published the
    event.
    """
    snapshot: Snapshot | None = cache.__dict__.get("snapshot")
    return snapshot
