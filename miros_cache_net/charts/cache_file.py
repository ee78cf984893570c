"""`CacheFileChart`: the statechart that guards one cache file.  It decides when; `store` does what."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.charts import addressing
from miros_cache_net.charts.addressing import addressee, parse_write
from miros_cache_net.charts.file_access import FileAccessChart
from miros_cache_net.charts.requests import Request, leaves_nothing_of_earlier
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document import Document
from miros_cache_net.errors import CacheNetError, DocumentTooLarge, PayloadError, Reason
from miros_cache_net.events import CACHE, CACHE_DESTROY, CACHE_FILE_READ, CACHE_FILE_WRITE, event
from miros_cache_net.settings.which_file import cache_file
from miros_cache_net.statechart.state import HANDLED
from miros_cache_net.store.changes import Begin, Change, Destroy, Merge, as_contents
from miros_cache_net.store.file_store import FileStore
from miros_cache_net.store.lock import Outcome
from miros_cache_net.store.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from random import Random
    from typing import Any

    from miros_cache_net.store.watch import ChangeSource, ChangeSourceFactory


class CacheFileChart(FileAccessChart):
    """Guards the cache file at `file_path`; starts itself.

    Subscribes to ``CACHE_FILE_READ``, ``CACHE_FILE_WRITE`` and ``CACHE_DESTROY``; posted to it directly they
    work the same.  Publishes ``CACHE`` (or `system_read_signal_name`) with `CacheReadPayload` as the answer to
    each read, with `watch` also whenever the document or `connected` has changed, whoever changed it; and
    ``CACHE_ERROR``.

    file_path                None: the setting `file`, else ``.miros_rabbitmq_cache.json`` here
    default_json             contents of a file that is not there yet: JSON text or a mapping
    watch                    True: the kernel tells of changes; or what makes another source of such news
    read_only                writes are refused, nothing is made or repaired, and it is never the chart that a
                             bare dict goes to
    take_over_after_s        how long a file that a stranger left un-writable is respected
    node_name                readable part of this host's name in stamps
    connected                asked for `CacheReadPayload.connected`

    Raises `PayloadError` for a malformed `default_json`, and `SettingsError` where no file is named and the
    settings cannot be read.  What is wrong with the file itself is an event, not
    an exception: the chart lives on, answers reads without the lock where it can, and recovers when the cause goes.
    """

    def __init__(
        self,
        file_path: str | os.PathLike[str] | None = None,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        default_json: str | Mapping[str, Any] | None = None,
        *,
        system_read_signal_name: str = CACHE,
        watch: bool | ChangeSourceFactory = False,
        read_only: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        rng: Random | None = None,
        take_over_after_s: float = limits.TAKE_OVER_AFTER_S,
        node_name: str | None = None,
        connected: Callable[[], bool] = lambda: False,
    ) -> None:
        store = FileStore(
            cache_file(file_path),
            default=as_contents(default_json or {}),
            clock=clock,
            node_name=node_name,
            take_over_after_s=take_over_after_s,
            notice=lambda reason, message: self.report(reason, message, self.file_name),
        )
        super().__init__(store, live_trace=live_trace, live_spy=live_spy, clock=clock, rng=rng)
        self.system_read_signal_name = system_read_signal_name
        self.read_only = read_only
        self.connected = connected
        self._watch_factory: ChangeSourceFactory | None = _file_watch() if watch is True else watch or None
        self._watch: ChangeSource | None = None
        self._published = "", False
        for name in (CACHE_FILE_READ, CACHE_FILE_WRITE, CACHE_DESTROY):
            self.subscribe(event(name))
        first = self.build_states(
            CACHE_FILE_READ=self.file_access_waiting_CACHE_FILE_READ,
            CACHE_FILE_WRITE=self.file_access_waiting_CACHE_FILE_WRITE,
            CACHE_DESTROY=self.file_access_waiting_CACHE_DESTROY,
            file_changed=self.file_access_waiting_file_changed,
        )
        self.start_at(first)

    # --- life ---------------------------------------------------------------------------------------

    def start_at(self, initial_state: Any) -> None:
        addressing.register(self)
        super().start_at(initial_state)

    def stop(self) -> None:
        """End thread, timers and watch, unsubscribe, leave the file writable; says if requests were still waiting."""
        addressing.unregister(self)
        super().stop()
        watch, self._watch = self._watch, None
        if watch is not None and not self._forked:
            watch.close()

    @property
    def path(self) -> Path:
        """The cache file."""
        from pathlib import Path  # a chart does without, and starts sooner

        return Path(self.file_path)

    def document(self) -> Document:
        """The present replicated document, read without a lock.  Raises `StoreError` or `DocumentError`."""
        return self.store.read().document

    @property
    def node(self) -> str:
        """This host's name in the stamps of this document."""
        return self.store.access.record.node

    def post_fifo(self, e: Event, period: float | None = None, times: int | None = None, deferred: Any = None) -> Any:
        return super().post_fifo(_posted(e), period, times, deferred)

    def post_lifo(self, e: Event, period: float | None = None, times: int | None = None, deferred: Any = None) -> Any:
        return super().post_lifo(_posted(e), period, times, deferred)

    # --- events -------------------------------------------------------------------------------------

    def file_access_waiting_CACHE_FILE_READ(self, e: Event) -> int:
        if e.payload is None or addressee(str(e.payload), self, _was_posted(e)).mine:
            self.ask(Request())
        return HANDLED

    def file_access_waiting_CACHE_FILE_WRITE(self, e: Event) -> int:
        try:
            name, make_change = parse_write(e.payload)
            if self._is_mine(name, e):
                self.ask(Request(make_change()))
        except PayloadError as error:
            if addressing.default_chart() is self or _was_posted(e):
                self.report_error(error)
        return HANDLED

    def file_access_waiting_CACHE_DESTROY(self, e: Event) -> int:
        if self._is_mine(_destroyed(e), e):
            self.ask(Request(Destroy()))
        return HANDLED

    def file_access_waiting_file_changed(self, e: Event) -> int:
        """The kernel says so: publish what is new, and have a stranger's write stamped."""
        try:
            snapshot = self.store.read()
        except CacheNetError:
            self.ask(Request(quiet=True))
        else:
            if (snapshot.foreign or snapshot.status is None) and not self.read_only:
                self.ask(Request(quiet=True))
            else:
                self._publish_if_changed(snapshot)
        return HANDLED

    def replaces_all(self, e: Event) -> bool:
        """Whether `e` is a whole write, or the destruction, of this chart's file."""
        with contextlib.suppress(Exception):  # a wrong payload is no such thing
            if e.signal_name == CACHE_DESTROY:
                return addressee(_destroyed(e), self, _was_posted(e)).mine
            if e.signal_name == CACHE_FILE_WRITE:
                name, make_change = parse_write(e.payload)
                mine = addressee(name, self, _was_posted(e)).mine
                return mine and leaves_nothing_of_earlier(make_change())
        return False

    def _is_mine(self, file_name: str | None, e: Event) -> bool:
        to = addressee(file_name, self, _was_posted(e))
        if to.error:
            self.report(Reason.AMBIGUOUS if to.ambiguous else Reason.PAYLOAD, to.error, self.file_name)
        if to.mine and self.read_only:
            self.report(Reason.PAYLOAD, f"{self.file_path}: this chart was built read-only", self.file_name)
        return to.mine and not self.read_only

    # --- what is done with the file -----------------------------------------------------------------

    def look_after_file(self, e: Event) -> int:
        """Make, repair or adopt the file if that is needed, and have it watched."""
        if not self.read_only:
            self._make_file()
        with contextlib.suppress(CacheNetError):
            self._published = self.store.read().face.version, False
        if self._watch_factory is not None and self._watch is None:
            self._watch = self._watch_factory(self.path, lambda: self.post_fifo(event("file_changed")))
        return HANDLED

    def _make_file(self) -> None:
        try:
            if self.store.access.try_enter() is Outcome.ENTERED:
                self.store.access.mark()
                self.store.load()
            else:
                self.post_fifo(event("file_changed"))
        except CacheNetError as error:
            self.report_error(error)
        finally:
            self.store.leave()

    def read_for(self, requests: Sequence[Request]) -> None:
        snapshot = self.store.read() if self.read_only else self.store.load()
        self._answer(requests, snapshot)

    def write_for(self, requests: Sequence[Request]) -> None:
        changes = [request.change for request in requests if request.change is not None]
        self._publish_if_changed(self.store.apply(changes, self._change_failed))

    def refuse(self, requests: Sequence[Request], error: Exception) -> None:
        writes = sum(1 for request in requests if request.change is not None)
        self.report_error(error, f"{writes} writes were not stored: " if writes > 1 else "")
        for request in requests:
            if isinstance(request.change, Begin):
                request.change.began(None)
        reads = [request for request in requests if request.change is None]
        if reads:
            try:
                self._answer(reads, self.store.read())
            except Exception as again:
                self.log.debug("not readable without the lock either: %s", again)

    def _answer(self, requests: Sequence[Request], snapshot: Snapshot) -> None:
        for request in requests:
            if not request.quiet:
                self._publish(snapshot)
        self._publish_if_changed(snapshot)

    def _change_failed(self, change: Change, error: Exception) -> None:
        if isinstance(change, Merge) and change.refused is not None and isinstance(error, DocumentTooLarge):
            change.refused(error)
            return
        self.report_error(error, f"{self.file_path}: {type(change).__name__.lower()} refused: ")

    def _publish_if_changed(self, snapshot: Snapshot) -> None:
        if self._watch_factory is not None and (snapshot.face.version, self.connected()) != self._published:
            self._publish(snapshot)

    def _publish(self, snapshot: Snapshot) -> None:
        self._published = snapshot.face.version, self.connected()
        payload = snapshot.payload(self.file_path, self.clock.wall_ms(), connected=self._published[1])
        self.publish(event(self.system_read_signal_name, payload))


def _posted(e: Event) -> Event:
    """A copy that remembers that it was posted to this very chart, not published to all."""
    copy = event(e.signal_name, e.payload)
    copy.posted = True
    return copy


def _file_watch() -> ChangeSourceFactory:
    from miros_cache_net.store.watch import FileWatch  # a chart that is not told of changes pays nothing for it

    return FileWatch


def _destroyed(e: Event) -> str | None:
    return None if e.payload is None else str(e.payload)


def _was_posted(e: Event) -> bool:
    return bool(e.__dict__.get("posted"))
