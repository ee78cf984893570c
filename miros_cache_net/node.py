"""`CacheNode`: the statechart that keeps this host's cache file in step with the fleet's.."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from miros.event import Event

from miros_cache_net.amqp.link import Place
from miros_cache_net.amqp.topology import check_place, place_of
from miros_cache_net.cache_chart.answers import handed_on
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import CacheNetError, SettingsError
from miros_cache_net.events import CACHE, CACHE_FILE_WRITE, event
from miros_cache_net.fleet.asking import Asking
from miros_cache_net.fleet.host_side import HostSide
from miros_cache_net.fleet.links import LinkFactory, rabbit_link
from miros_cache_net.host import messages
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import key_id
from miros_cache_net.settings.which_file import cache_path
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.store.changes import AddressedChange, Merge, as_contents

if TYPE_CHECKING:
    from miros_cache_net.fleet.bridge import Bridge

#: When a bridge without a usable key looks for one again.
_KEY_AGAIN_S: Final = 5.0
#: When a new bridge begins to watch the file: not while it connects.
WATCH_AFTER_S: Final = 0.1


class CacheNode(Chart):
    """Owns this host's link to the fleet and one `CacheFileChart`; starts itself.

    Any number of processes of a host may build one on the same file: the first connects to RabbitMQ (the
    bridge), the others follow it through a socket beside the file, and one of them takes over when it ends.  A
    node serves and takes writes without any broker in sight, and catches up.

    file_path     as for `CacheFileChart`; None: the settings' `file`
    settings      None: `Settings()` from the environment
    default_json  contents of a file that is not there yet
    link_factory  what makes the link; for tests, see `miros_cache_net.amqp.memory`

    Publishes what its file chart publishes: ``CACHE`` whenever the document changed, or the host is in step with
    the fleet now or no longer (`CacheReadPayload.connected`), and ``CACHE_ERROR``.  `file_chart` is that chart.

    Raises `SettingsError` where a setting is malformed or no key is configured, `PayloadError` for a malformed
    `default_json`, `StoreError` where the directory takes no bridge lock.
    """

    STATES = (
        State("node_running", ENTRY=STAYS, INIT="following"),
        State("following", "node_running", bridge_lock_taken="bridging", CACHE=STAYS, fleet_asked=STAYS),
        State(
            "bridging",
            "node_running",
            ENTRY=STAYS,
            INIT="unlinked",
            watch_due=STAYS,
            CACHE=STAYS,
            link_up="joining",
            link_down="unlinked",
            messages_waiting=STAYS,
            publication_done=STAYS,
            key_refused=STAYS,
            replica_timer=STAYS,
            lease_news=STAYS,
            merge_refused=STAYS,
            fleet_asked=STAYS,
        ),
        State("unlinked", "bridging"),
        State("joining", "bridging", joined="in_sync"),
        State("in_sync", "bridging", ENTRY=STAYS),
    )

    def __init__(
        self,
        file_path: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        live_trace: bool | None = None,
        live_spy: bool | None = None,
        default_json: str | Mapping[str, Any] | None = None,
        *,
        link_factory: LinkFactory = rabbit_link,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._key_ids = [key_id(key) for key in self.settings.load_keys()]
        self._link_factory = link_factory
        self._rng = rng or random.Random()
        self._bridge: Bridge | None = None
        self._version = ""
        self._asking = Asking(lambda question: self.bridge_event("fleet_asked", question))
        self._path = path = cache_path(file_path if file_path is not None else self.settings.file)
        self.place: Place = check_place(place_of(self.settings, path))
        default = as_contents(default_json or {})
        self._host = HostSide(self, path, self._identity())
        super().__init__(f"node {os.path.basename(path)}", live_trace=live_trace, live_spy=live_spy, clock=clock)
        self._file_chart: Future[CacheFileChart] = Future()
        self.subscribe(CACHE)
        # it takes the bridge lock and connects, while this thread has the file looked after
        self.start_at()
        try:
            made = CacheFileChart(
                path,
                live_trace=live_trace,
                live_spy=live_spy,
                default_json=default,
                watch=self._host.watch,
                clock=clock,
                take_over_after_s=self.settings.take_over_after_s,
                node_name=self.settings.node_name,
                connected=lambda: self.connected,
            )
        except BaseException as error:
            self._file_chart.set_exception(error)
            self._leave()
            raise
        self._file_chart.set_result(made)

    @property
    def file_chart(self) -> CacheFileChart:
        """The chart that guards the cache file."""
        return self._file_chart.result()

    # --- what users ask -----------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """This host is in step with the fleet, by this process or by its bridge."""
        return self._host.connected

    def read_fleet(self, timeout_s: float = 3.0) -> Document | None:
        """The document of whichever other host answers first; None if nobody does, or nobody has written it.

        Blocks the caller, who must not be a handler of this node.  Raises `BrokerUnreachable` where this host has
        no link to the fleet, or its bridge does not answer.
        """
        return self._asking.document(timeout_s)

    def fleet_status(self, timeout_s: float = 2.0) -> list[dict[str, Any]]:
        """`status` of every host's bridge, by name; blocks and raises as `read_fleet` does."""
        return self._asking.statuses(timeout_s)

    def ask_turn(self, done: Callable[[bool], None]) -> None:
        """May this host discover now?  `done(False)`: another host of the fleet does.

        That is, has it the fleet's lease?  The asking process has the host's discovery lock (see `single_flight`), and
        the lease is kept for as long as it does.  True also where there is no fleet to ask.  `done` is called on any
        thread; not at all where the bridge does not answer in time.
        """
        self._asking.lease(self.settings.answer_timeout_s, done)

    def status(self) -> dict[str, Any]:
        """What `status` shows of this node: a JSON object without secrets.  From any thread."""
        document, bridge, told, now_ms = self._document(), self._bridge, self._host.told, self.clock.wall_ms()
        return {
            "node": self.file_chart.node,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "role": "bridge" if self._host.is_bridge else "follower",
            "connected": self.connected,
            "broker": bridge.broker if bridge else told.broker if told else "",
            "trouble": bridge.trouble if bridge else told.trouble if told else "",
            "scope": self.place.scope,
            "document": self.place.document,
            "version": document.version if document.is_written else "",
            "origin": document.origin,
            "age_s": None if document.is_empty else document.age_s(now_ms),
            "expired": document.expired(now_ms),
            "keys": self._keys_now(),
            "clock_ms": now_ms,
            "counters": {**self._host.counters, **(bridge.counters() if bridge else {})},
        }

    def stop(self) -> None:
        """Leave the fleet, end threads and connections; the cache file stays and is writable."""
        self._leave()
        self.file_chart.stop()

    def _leave(self) -> None:
        super().stop()
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.stop()
        self._host.stop()

    # --- states ---------------------------------------------------------------------------------------

    def node_running_ENTRY(self, e: Event) -> int:
        if self._host.start():
            # not here and now: what a bridge loads must not keep the thread that starts from reading the file
            self.bridge_event("bridge_lock_taken")
        return HANDLED

    def node_running_INIT(self, e: Event) -> int:
        return self.trans("following")

    def following_bridge_lock_taken(self, e: Event) -> int:
        """From now on this process is its host's bridge, for life."""
        # before what takes long: who finds no socket watches the file
        self._host.serve()
        # cryptography and pika are loaded by the process that becomes the bridge, not by its followers
        from miros_cache_net.wire.keyring import open_ring

        try:
            self._rings = open_ring(self.settings)
        except SettingsError as error:
            self.report(error.reason, f"this host has no link to the fleet: {error}")
            self.post_later(e, _KEY_AGAIN_S)
            return HANDLED
        return self.trans("bridging")

    def following_CACHE(self, e: Event) -> int:
        if self._is_my_file(e):
            self._host.saw(e.payload.version)
        return HANDLED

    def following_fleet_asked(self, e: Event) -> int:
        self._host.ask(e.payload)
        return HANDLED

    def bridging_ENTRY(self, e: Event) -> int:
        from miros_cache_net.fleet.bridge import Bridge

        self._bridge = Bridge(
            self,
            self.settings,
            self.place,
            file=self._path,
            node=lambda: self.file_chart.node,
            rings=self._rings,
            clock=self.clock,
            rng=self._rng,
            link_factory=self._link_factory,
        )
        # it connects while the file chart is still being made
        self._bridge.start()
        document = self._document()
        self._bridge.local_changed(document)
        for question in self._host.lead():
            self._bridge.ask(question)
        self._tell(document.version)
        # that takes as long as half the way to the broker; what changes until then is found when it begins
        self.post_later(event("watch_due"), WATCH_AFTER_S, always=True)
        return HANDLED

    def bridging_watch_due(self, e: Event) -> int:
        self._host.watch_file()
        return HANDLED

    def bridging_INIT(self, e: Event) -> int:
        return self.trans("unlinked")

    def bridging_CACHE(self, e: Event) -> int:
        if self._bridge and self._is_my_file(e):
            stored = handed_on(e)
            self._bridge.local_changed(self._document() if stored is None else stored.document)
            self._tell(e.payload.version)
        return HANDLED

    def bridging_merge_refused(self, e: Event) -> int:
        if self._bridge:
            document, node = e.payload
            self._bridge.merge_refused(document, node, self._document())
            self._tell()
        return HANDLED

    def bridging_link_up(self, e: Event) -> int:
        if self._bridge:
            self._bridge.is_linked(e.payload)
        return self.trans("joining")

    def bridging_link_down(self, e: Event) -> int:
        if self._bridge:
            self._bridge.is_unlinked(e.payload)
        self._tell()
        self.report(e.payload.reason, str(e.payload))
        return self.trans("unlinked")

    def bridging_messages_waiting(self, e: Event) -> int:
        return self._have_done(lambda bridge: bridge.take_messages())

    def bridging_publication_done(self, e: Event) -> int:
        return self._have_done(lambda bridge: bridge.publication_done(e.payload))

    def bridging_key_refused(self, e: Event) -> int:
        return self._have_done(lambda bridge: bridge.key_refused())

    def bridging_replica_timer(self, e: Event) -> int:
        return self._have_done(lambda bridge: bridge.timer_due(e.payload))

    def bridging_lease_news(self, e: Event) -> int:
        return self._have_done(lambda bridge: bridge.lease_news(*e.payload))

    def bridging_fleet_asked(self, e: Event) -> int:
        return self._have_done(lambda bridge: bridge.ask(e.payload))

    def joining_joined(self, e: Event) -> int:
        # what was posted over the link before this one says nothing
        return self.trans("in_sync") if self._bridge and self._bridge.in_sync else HANDLED

    def in_sync_ENTRY(self, e: Event) -> int:
        """Subscribers, here and in the followers, learn that what they have is the fleet's."""
        self._tell()
        return HANDLED

    # --- BridgeOwner ------------------------------------------------------------------------------------

    def bridge_event(self, name: str, payload: Any = None) -> None:
        # a flood of CACHE in this process must not cost the node its own news
        self.post_always(event(name, payload))

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        timer = self.post_later(event(name, payload), delay_s, always=True)
        return timer.cancel

    def merge(self, document: Document, node: str) -> None:
        def refused(_error: Exception) -> None:
            self.bridge_event("merge_refused", (document, node))

        change = AddressedChange(Merge(document, refused), self.file_chart.file_path)
        self.file_chart.post_fifo(event(CACHE_FILE_WRITE, change))

    def _have_done(self, act: Callable[[Bridge], None]) -> int:
        """Have the bridge do its part, and the host's other processes told of what that changed."""
        if self._bridge:
            act(self._bridge)
            self._tell()
        return HANDLED

    def _tell(self, version: str = "") -> None:
        """Have the other processes of this host know how things stand."""
        bridge = self._bridge
        broker, trouble = (bridge.broker, bridge.trouble) if bridge else ("", "")
        # what the file chart has found in order: not what a stranger may be writing just now
        self._version = version or self._version
        self._host.tell(messages.State(self._version, bool(bridge and bridge.in_step), broker, trouble))

    def _keys_now(self) -> list[str]:
        with suppress(SettingsError):  # the bridge's ring reports it; what was read last still counts
            self._key_ids = [key_id(key) for key in self.settings.load_keys()]
        return list(self._key_ids)

    def _is_my_file(self, e: Event) -> bool:
        return bool(getattr(e.payload, "file_path", "") == str(self._path))

    def _document(self) -> Document:
        try:
            return self.file_chart.document()
        except CacheNetError:
            return Document.unwritten({})  # the file chart reports it and starts again

    def _identity(self) -> list[str]:
        place = self.place
        brokers = [str(address) for address in self.settings.amqp_urls]
        # a rotation changes the keys of a file, not the fleet: two bridges would be two links
        key = self._key_ids[0] if self.settings.keys else str(self.settings.keys_file)
        return [*brokers, place.exchange, place.scope, place.document, key]
