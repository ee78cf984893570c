"""`CacheNode`: the statechart that keeps this host's cache file in step with the fleet's."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from miros.event import Event

from miros_cache_net.cache_chart.answers import handed_on
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.layout import FORMAT
from miros_cache_net.document.value import Document
from miros_cache_net.errors import Reason, SettingsError
from miros_cache_net.events import CACHE, event
from miros_cache_net.fleet.health import DISK, FILE, KEY, LINK, Check, Health, own_trouble, untroubled
from miros_cache_net.fleet.host_side import HostSide
from miros_cache_net.fleet.links import LinkFactory, shared_rabbit_link
from miros_cache_net.fleet.node_events import BRIDGE_LOCK_TAKEN, FLEET_ASKED, PLACE_DUE, WATCH_DUE
from miros_cache_net.fleet.place import Place, check_place, place_of
from miros_cache_net.host import messages
from miros_cache_net.host.asking import Asking
from miros_cache_net.node_port import NodePort
from miros_cache_net.node_status import FOLLOWING, IN_STEP, JOINING, UNLINKED, NodeCheck, NodeStatus
from miros_cache_net.observe.registry import Registry
from miros_cache_net.observe.steps import RECORDER, Step
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.release import release
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import key_id
from miros_cache_net.settings.which_file import cache_path
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.listener import Listener
from miros_cache_net.statechart.plain_charts import plain_rings
from miros_cache_net.statechart.state import HANDLED, STAYS, State
from miros_cache_net.store.changes import as_contents

if TYPE_CHECKING:
    from miros_cache_net.fleet.bridge import Bridge
    from miros_cache_net.mesh.interpreter import Interpreter
    from miros_cache_net.metrics.server import MetricsServer

#: Retry interval of a bridge without a usable key.
_KEY_AGAIN_S: Final = 5.0
#: Back-off bounds for retrying what the system denied.
_AGAIN_LEAST_S: Final = 0.5
_AGAIN_MOST_S: Final = 30.0
#: Errors when the system temporarily denies files, threads, or modules (which are files).
_NOT_GRANTED: Final = (OSError, RuntimeError, ImportError)
#: Polling interval of `wait_connected`: nothing is published while the file cannot be read.
_CONNECTED_LOOK_S: Final = 1.0
#: Delay before a new bridge starts watching the file, so that it connects first.
WATCH_AFTER_S: Final = 0.1

# a process with a node shows the charts that its program builds on `miros` alone, too
RECORDER.also_read(plain_rings)


class CacheNode(Chart):
    """Owns this host's link to the fleet and one `CacheFileChart`; starts itself.

    Any number of processes of a host may build one on the same file: the first becomes the bridge and connects to
    RabbitMQ, the others follow it through a socket beside the file, and one of them takes over when it ends.  A node
    serves reads and takes writes without a broker, and catches up later.

    file_path     as for `CacheFileChart`; None: the settings' `file`
    settings      None: `Settings()` from the environment
    default_json  contents of a file that does not exist yet
    metrics       where to serve `/metrics`, `/healthz` and `/readyz`, for example ``127.0.0.1:9464``; needs the extra
                  [metrics]
    link_factory  makes the link; for tests, see `miros_cache_net.amqp.memory`

    Subscribes to ``CACHE``.  Publishes what its file chart (`file_chart`) publishes: ``CACHE`` whenever the document
    changes or the host gets in or out of step with the fleet (`CacheReadPayload.connected`), and ``CACHE_ERROR``.

    Raises `SettingsError` if a setting is malformed or no key is configured, `PayloadError` for a malformed
    `default_json`, `StoreError` if the bridge lock cannot be made in the file's directory.
    """

    STATES = (
        State("node_running", ENTRY=STAYS, INIT="following", place_due=STAYS, health_asked=STAYS),
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
            publication_refused=STAYS,
            not_understood=STAYS,
            timer_due=STAYS,
            lease_answered=STAYS,
            discovery_over=STAYS,
            merge_refused=STAYS,
            fleet_asked=STAYS,
            status_due=STAYS,
            mesh_due=STAYS,
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
        metrics: str | None = None,
        link_factory: LinkFactory = shared_rabbit_link,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._key_ids = [key_id(key) for key in self.settings.load_keys()]
        self._link_factory = link_factory
        self._rng = rng or random.Random()
        self._bridge: Bridge | None = None
        #: What serves this node's numbers; None unless it was asked for.
        self.metrics: MetricsServer | None = None
        self._interpreter: Interpreter | None = None
        self._version = self._not_granted = ""
        self._again_s = 0.0
        self._began_s = clock.monotonic_s()
        self._path = path = cache_path(file_path if file_path is not None else self.settings.file)
        self.place: Place = check_place(place_of(self.settings, path))
        default = as_contents(default_json or {})
        self._health = Health(path, clock)
        #: What this node counts; several nodes of a process do not mix.
        self.registry = Registry()
        self._port = NodePort(self, lambda: self.file_chart, self._health.disk)
        self._fleet = Asking(lambda question: self._port.bridge_event(FLEET_ASKED, question))
        self._host = HostSide(self._port, path, self._identity(), self.registry)
        super().__init__(f"node {os.path.basename(path)}", live_trace=live_trace, live_spy=live_spy, clock=clock)
        self._file_chart: Future[CacheFileChart] = Future()
        self.subscribe(CACHE)
        # the node's thread takes the bridge lock and connects while this one makes the file chart
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
                registry=self.registry,
            )
        except BaseException as error:
            self._file_chart.set_exception(error)
            self._leave()
            raise
        self._file_chart.set_result(made)
        if metrics is not None:
            self._serve_metrics(metrics)

    @property
    def file_chart(self) -> CacheFileChart:
        """The chart that guards the cache file."""
        return self._file_chart.result()

    # --- for users ----------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether this host is in step with the fleet, through this process or its bridge."""
        return self._host.connected

    def wait_connected(self, timeout_s: float | None = None) -> bool:
        """Wait until `connected`; False after `timeout_s` seconds (None: no limit), or once the node is stopped.

        Blocks; do not call it in a handler of this node.
        """
        deadline_s = None if timeout_s is None else self.clock.monotonic_s() + timeout_s
        news = threading.Event()
        with Listener({self.file_chart.system_read_signal_name: lambda _payload: news.set()}, "wait"):
            while self.running and not self.connected:
                left_s = _CONNECTED_LOOK_S if deadline_s is None else deadline_s - self.clock.monotonic_s()
                if left_s <= 0:
                    break
                news.wait(min(left_s, _CONNECTED_LOOK_S))
                news.clear()
        return self.running and self.connected

    def on_change(self, callback: Callable[[CacheReadPayload], object]) -> Callable[[], None]:
        """Have ``callback(payload)`` called for each new state of the document; see `CacheFileChart.on_change`."""
        return self.file_chart.on_change(callback)

    def read_fleet(self, timeout_s: float = 3.0) -> Document | None:
        """The document of the first other host to answer; None if none does, or nobody has written it yet.

        Blocks up to `timeout_s` seconds; do not call it in a handler of this node.  Raises `BrokerUnreachable` if this
        host has no link to the fleet, or its bridge does not answer.
        """
        return self._fleet.document(timeout_s)

    def fleet_status(self, timeout_s: float = 2.0) -> list[NodeStatus]:
        """`status` of every host's bridge, by name; blocks and raises as `read_fleet` does."""
        return self._fleet.statuses(timeout_s)

    def ask_turn(self, done: Callable[[bool], None]) -> None:
        """May this host discover now?  `done(False)`: another host of the fleet does.

        That is, does it hold the fleet's lease?  The asking process holds the host's discovery lock (see
        `single_flight`), and the lease is kept as long as it does.  True also if there is no fleet to ask.  `done` may
        be called on any thread; it is not called if the bridge does not answer in time.
        """
        self._fleet.lease(self.settings.answer_timeout_s, done)

    def status(self) -> NodeStatus:
        """This node's entry in `status`: a JSON object without secrets.  Callable from any thread."""
        bridge, told, now_ms = self._bridge, self._host.told, self.clock.wall_ms()
        document = self._port.held() or Document.unwritten({})
        checks = [*self._checks(), untroubled(DISK, self._health.disk.trouble)]
        return {
            "node": self.file_chart.node,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "role": "bridge" if self._host.is_bridge else "follower",
            "state": self._state(),
            "connected": self.connected,
            "broker": bridge.broker if bridge else told.broker if told else "",
            "trouble": self._trouble() or own_trouble(checks),
            "checks": [NodeCheck(name=each.name, ok=each.ok, detail=each.detail) for each in checks],
            "scope": self.place.scope,
            "document": self.place.document,
            "version": document.version if document.is_written else "",
            "origin": document.origin,
            "age_s": None if document.is_empty else document.age_s(now_ms),
            "expires_s": document.expires_s(now_ms),
            "expired": document.expired(now_ms),
            "keys": self._keys_now(),
            "clock_ms": now_ms,
            "ahead_s": 0.0,
            "lag_s": bridge.lag.lag_s if bridge else None,
            "lag_from": bridge.lag.node if bridge else "",
            "release": release(),
            "format": FORMAT,
            "uptime_s": self.clock.monotonic_s() - self._began_s,
            "counters": self.registry.flat(),
        }

    def stop(self) -> None:
        """Leave the fleet and end all threads and connections; the cache file stays, and stays writable."""
        self._leave()
        self.file_chart.stop()

    def _serve_metrics(self, address: str) -> None:
        try:
            from miros_cache_net.metrics.server import MetricsServer

            self.metrics = MetricsServer(address, self.status, self.registry, self._port.health)
        except ImportError:
            self.stop()
            raise SettingsError("metrics need a library", mend="pip install 'miros-cache-net[metrics]'") from None
        except BaseException:
            self.stop()
            raise

    def _leave(self) -> None:
        if self.metrics is not None:
            self.metrics.close()
        super().stop()
        interpreter, self._interpreter = self._interpreter, None
        if interpreter is not None:
            interpreter.stop()
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.stop()
        self._host.stop()

    # --- states ---------------------------------------------------------------------------------------

    def _node_running_ENTRY(self, e: Event) -> int:
        try:
            is_bridge = self._host.start()
        except _NOT_GRANTED as error:
            return self._wait_for_grant(PLACE_DUE, "does not follow its host's bridge", error)
        self._granted()
        if is_bridge:
            # at once: a follower that finds no socket watches the file, a program that asks for its turn discovers
            _denied(self._host.serve)
            # posted, not called: a bridge's imports must not hold up the starting thread, which reads the file
            self._port.bridge_event(BRIDGE_LOCK_TAKEN)
        return HANDLED

    _node_running_place_due = _node_running_ENTRY

    def _node_running_health_asked(self, e: Event) -> int:
        self._health.answer(e.payload, self.file_chart.node, self._checks())
        return HANDLED

    def _node_running_INIT(self, e: Event) -> int:
        return self.trans("following")

    def _following_bridge_lock_taken(self, e: Event) -> int:
        """From now on this process is its host's bridge, for life."""
        try:
            self._bridge = self._made_bridge()
        except SettingsError as error:
            self.report(error.reason, f"this host has no link to the fleet: {error}")
            self.post_later(e, _KEY_AGAIN_S)
            return HANDLED
        except _NOT_GRANTED as error:
            return self._wait_for_grant(BRIDGE_LOCK_TAKEN, "has no link to the fleet", error)
        self._granted()
        return self.trans("bridging")

    def _following_CACHE(self, e: Event) -> int:
        if self._is_my_file(e):
            self._host.saw(e.payload.version)
        return HANDLED

    def _following_fleet_asked(self, e: Event) -> int:
        self._host.ask(e.payload)
        return HANDLED

    def _bridging_ENTRY(self, e: Event) -> int:
        assert self._bridge is not None
        # it connects while the file chart is still being made
        self._bridge.start()
        _denied(self._join_mesh)
        document = self._port.held()
        if document is not None:
            self._bridge.local_changed(document)
        for question in self._host.lead():
            self._port.bridge_event(FLEET_ASKED, question)
        self._tell(document.version if document else "")
        # starting the watch takes half as long as connecting; it finds earlier changes when it starts
        self.post_later(event(WATCH_DUE), WATCH_AFTER_S, always=True)
        return HANDLED

    def _bridging_watch_due(self, e: Event) -> int:
        """Watch the file, and do what was denied before; what is denied now holds up nothing else."""
        attempts = {
            "is not told of what others write into its file": _denied(self._host.watch_file),
            "has no socket for the other processes of this host": _denied(self._host.serve),
            "takes no part in the mesh": _denied(self._join_mesh),
        }
        for lacks, error in attempts.items():
            if error is not None:
                return self._wait_for_grant(WATCH_DUE, lacks, error)
        self._granted()
        return HANDLED

    def _join_mesh(self) -> None:
        """Take part in the old mesh, if that is wanted; idempotent."""
        if self._bridge is None or self._interpreter is not None or not self.settings.mesh:
            return
        interpreter = self._made_interpreter(self._bridge)
        interpreter.start()
        self._interpreter = interpreter
        document = self._port.held()
        if document is not None:
            interpreter.local_changed(document)

    def _bridging_INIT(self, e: Event) -> int:
        return self.trans("unlinked")

    def _bridging_CACHE(self, e: Event) -> int:
        if self._bridge and self._is_my_file(e):
            stored = handed_on(e)
            document = self._port.held() if stored is None else stored.document
            if document is not None:
                self._local_changed(document)
            self._tell(e.payload.version)
        return HANDLED

    def _bridging_link_up(self, e: Event) -> int:
        self._have_handled(e)
        return self.trans("joining")

    def _bridging_link_down(self, e: Event) -> int:
        self._have_handled(e)
        self.report(e.payload.reason, str(e.payload))
        return self.trans("unlinked")

    def _have_handled(self, e: Event) -> int:
        """Let the bridge handle the event, then tell the host's other processes the new state."""
        if self._bridge:
            self._bridge.handle(e.signal_name, e.payload)
            if self._interpreter:
                self._interpreter.look()
            self._tell()
        return HANDLED

    def _bridging_mesh_due(self, e: Event) -> int:
        if self._interpreter:
            self._interpreter.handle(*e.payload)
            self._tell()
        return HANDLED

    def _local_changed(self, document: Document) -> None:
        if self._bridge:
            self._bridge.local_changed(document)
        if self._interpreter:
            self._interpreter.local_changed(document)

    _bridging_messages_waiting = _bridging_publication_done = _bridging_not_understood = _have_handled
    _bridging_publication_refused = _have_handled
    _bridging_lease_answered = _bridging_discovery_over = _have_handled
    _bridging_timer_due = _bridging_merge_refused = _bridging_fleet_asked = _bridging_status_due = _have_handled

    def _joining_joined(self, e: Event) -> int:
        # an event posted over an earlier link does not count
        return self.trans("in_sync") if self._bridge and self._bridge.replica.in_sync else HANDLED

    def _in_sync_ENTRY(self, e: Event) -> int:
        """Tell subscribers, here and in the followers, that they are in step with the fleet."""
        self._tell()
        return HANDLED

    # --- what the states share ------------------------------------------------------------------------

    def _made_bridge(self) -> Bridge:
        # imported here so that only the bridge loads cryptography and pika, not its followers
        from miros_cache_net.fleet.bridge import Bridge
        from miros_cache_net.wire.keyring import open_ring

        return Bridge(
            self._port,
            self.settings,
            self.place,
            file=self._path,
            node=lambda: self.file_chart.node,
            rings=open_ring(self.settings),
            clock=self.clock,
            rng=self._rng,
            link_factory=self._link_factory,
            registry=self.registry,
        )

    def _made_interpreter(self, bridge: Bridge) -> Interpreter:
        # imported here so that a node that takes no part in the old mesh loads nothing of it
        from miros_cache_net.mesh.config import mesh_settings
        from miros_cache_net.mesh.interpreter import Interpreter
        from miros_cache_net.wire.keyring import open_mesh_ring

        return Interpreter(
            self._port,
            bridge,
            mesh_settings(self.settings, "", "", None),
            self.place,
            open_rings=partial(open_mesh_ring, self.settings),
            is_main=self._path == cache_path(self.settings.file),
            clock=self.clock,
            rng=self._rng,
            make_node=CacheNode,
            registry=self.registry,
        )

    def _wait_for_grant(self, name: str, lacks: str, error: Exception) -> int:
        """Report once what the system denied, and post `name` again with back-off."""
        if not self._not_granted:
            self._not_granted = (
                f"this process {lacks}: {error}; close files or end threads, or raise its limits (ulimit -n, ulimit "
                "-u); it is tried again"
            )
            self.report(Reason.IO, self._not_granted)
        self._again_s = min(2 * self._again_s or _AGAIN_LEAST_S, _AGAIN_MOST_S)
        self._port.bridge_event_later(name, None, self._again_s)
        self._tell()
        return HANDLED

    def _granted(self) -> None:
        self._not_granted, self._again_s = "", 0.0

    def _tell(self, version: str = "") -> None:
        """Tell the other processes of this host the current state."""
        bridge = self._bridge
        broker = bridge.broker if bridge else ""
        # the version that the file chart has accepted, not what a stranger may be writing right now
        self._version = version or self._version
        self._health.look(bool(bridge and bridge.in_touch))
        watched = bridge.traces.watched if bridge else ""
        in_step = bool(bridge and bridge.replica.in_step)
        self._host.tell(messages.State(self._version, in_step, broker, self._trouble(), watched))

    def _followers_did(self, steps: Iterable[Step]) -> None:
        bridge = self._bridge
        if bridge is not None:
            bridge.traces.heard(steps)

    def _state(self) -> str:
        if self._bridge is None:
            return FOLLOWING
        if not self._bridge.broker:
            return UNLINKED
        return IN_STEP if self._bridge.replica.in_sync else JOINING

    def _trouble(self) -> str:
        """What keeps this host from its fleet; "" if nothing does."""
        bridge, told = self._bridge, self._host.told
        return self._not_granted or (self._trouble_of(bridge) if bridge else told.trouble if told else "")

    def _trouble_of(self, bridge: Bridge) -> str:
        return bridge.trouble or (self._interpreter.trouble if self._interpreter else "")

    def _checks(self) -> list[Check]:
        """All checks except the disk."""
        file = "" if self._port.held() is not None else f"{self._path} cannot be read: see `miros-cache-net doctor`"
        return [*self._fleet_checks(), untroubled(KEY, self._key_trouble()), untroubled(FILE, file)]

    def _fleet_checks(self) -> list[Check]:
        bridge, told = self._bridge, self._host.told
        self._health.look(bool(bridge and bridge.in_touch))
        if bridge is not None:
            return bridge.checks()
        if told is None:
            return [Check(LINK, False, "this process has no link yet")]
        return [Check(LINK, bool(told.broker), told.broker or told.trouble or "no link to the broker yet")]

    def _key_trouble(self) -> str:
        try:
            self.settings.load_keys()
        except SettingsError as error:
            return str(error)
        return ""

    def _keys_now(self) -> list[str]:
        with suppress(SettingsError):  # the bridge's ring reports it; keep the last good ids
            self._key_ids = [key_id(key) for key in self.settings.load_keys()]
        return list(self._key_ids)

    def _is_my_file(self, e: Event) -> bool:
        return bool(getattr(e.payload, "file_path", "") == str(self._path))

    def _identity(self) -> list[str]:
        place = self.place
        brokers = [str(address) for address in self.settings.amqp_urls]
        # rotating the keys in a file does not change the fleet, and must not lead to two bridges
        key = self._key_ids[0] if self.settings.keys else str(self.settings.keys_file)
        return [*brokers, place.exchange, place.scope, place.document, key]


def _denied(begin: Callable[[], None]) -> Exception | None:
    """Call `begin`; returns the error if the system denied what it needs."""
    try:
        begin()
    except _NOT_GRANTED as error:
        return error
    return None
