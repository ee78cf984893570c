"""Finds the LAN's brokers to send to, once for all charts of a program, with the package's ordinary discovery.

A `CacheNode` synchronises the LAN document with the other hosts, a `LanChart` discovers if no other host has, and a
`ManNetChart` follows the hosts file.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from miros.event import Event

from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.discovery import lan_document
from miros_cache_net.discovery.connections import read_once
from miros_cache_net.discovery.lan import DEFAULT_FILE, LanChart
from miros_cache_net.discovery.man_net import ManNetChart
from miros_cache_net.discovery.member import Member
from miros_cache_net.discovery.old_mesh import OldMeshProber
from miros_cache_net.discovery.peers import split_peer
from miros_cache_net.discovery.probe.prober import ProbeResult, Verdict, shared_prober
from miros_cache_net.discovery.probe.target import target_for
from miros_cache_net.discovery.wanted import is_configured
from miros_cache_net.errors import CacheNetError
from miros_cache_net.events import CONNECTION_DISCOVERY, LAN_RECCE_COMPLETE, RECCE_LAN, event
from miros_cache_net.mesh.addresses import broker_of, is_numeric
from miros_cache_net.mesh.topology import MESH_EXCHANGE
from miros_cache_net.settings import Settings
from miros_cache_net.settings.which_file import cache_path
from miros_cache_net.statechart import fabric

_LOG = logging.getLogger(__name__)

#: The shortest time between recces caused by unknown senders, because a sweep's traffic grows with the network's size.
LOOK_AGAIN_S: Final = 60.0

#: Called whenever the known peers may have changed: with the peers, and whether the first discovery has finished.
Told = Callable[[list[str], bool], object]


class StoppableMember(Member, Protocol):
    """A `CacheNode`."""

    def stop(self) -> None: ...


#: `CacheNode`, which stands above this package; it is called with path, settings and `default_json`.
MakeNode = Callable[..., StoppableMember]


class Discovery:
    """One for all charts of a process with equal settings; thread-safe, and no method blocks on a network."""

    def __init__(self, settings: Settings, path: Path, make_node: MakeNode) -> None:
        self.settings, self.path, self._make_node = settings, path, make_node
        self._lock = threading.Lock()
        self._told: list[Told] = []
        self._peers: list[str] = []
        self._looked = False
        #: The peers found by the last extra recce, its request id, and when it began.
        self._found: list[str] = []
        self._request = ""
        self._looked_again_s = -math.inf
        self._numeric: dict[str, str] = {}
        self._asked: set[str] = set()
        self._charts: list[Any] = []
        self._lan: LanChart | None = None
        self._networks: list[Any] = []
        self._over = False
        self._starter = threading.Thread(target=self._start, name="miros_cache_net mesh discovery", daemon=True)

    def peers(self) -> list[str]:
        """The peers known now."""
        return list(self._peers)

    def report_failure(self, peer: str) -> None:
        """Report that a link could not reach `peer`: it is scouted again, and leaves every host's document if gone."""
        lan = self._lan
        if lan is not None:
            lan.report_failure(peer)

    def look_again(self) -> None:
        """Start an extra recce for an unknown sender, if the `LanChart` runs; at most one every `LOOK_AGAIN_S`."""
        with self._lock:
            lan, now_s = self._lan, SYSTEM_CLOCK.monotonic_s()
            if lan is None or now_s - self._looked_again_s < LOOK_AGAIN_S:
                return
            self._looked_again_s, self._request = now_s, uuid.uuid4().hex
        lan.lan_recce_chart.post_fifo(event(RECCE_LAN, self._request))

    def append(self, e: Event) -> None:
        """Called by the fabric as a subscriber's queue, when the known peers have changed."""
        try:
            if e.signal_name == LAN_RECCE_COMPLETE:
                if e.payload.request != self._request or not self._request:
                    return
                self._found = list(e.payload.other_addresses)
            self._tell()
        except Exception as error:  # It would end publishing for the whole process.
            _LOG.error("the mesh could not be notified of its peers: %s: %s", type(error).__name__, error)

    # --- for `join` and `leave` -----------------------------------------------------------------------------

    def begin(self) -> None:
        self._starter.start()

    def add(self, told: Told) -> None:
        with self._lock:
            self._told.append(told)
            peers, looked = self._peers, self._looked
        if peers or looked:
            told(peers, looked)

    def remove(self, told: Told) -> bool:
        """Remove `told`; returns whether it was the last."""
        with self._lock:
            self._told.remove(told)
            return not self._told

    def end(self) -> None:
        """Stop the charts; the LAN document stays."""
        with self._lock:
            self._over = True
        if self._starter is not threading.current_thread():
            self._starter.join()
        for signal in (CONNECTION_DISCOVERY, LAN_RECCE_COMPLETE):
            fabric.unsubscribe(self, signal, "fifo")
        self._lan = None
        for chart in reversed(self._charts):
            chart.stop()

    # --- helpers --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            self._start_charts()
        except (CacheNetError, OSError, RuntimeError) as error:
            _LOG.error("no other broker is looked for, so the mesh has only this host's own: %s", error)
            self._looked = True
        self._tell()

    def _start_charts(self) -> None:
        # Subscribed before the first chart is built, to receive the peers that a young file yields at once.
        for signal in (CONNECTION_DISCOVERY, LAN_RECCE_COMPLETE):
            fabric.subscribe(self, signal, "fifo")
        # events without a document name never mean this one, whatever the mesh does with the program's own
        settings = self.settings.model_copy(update={"mesh": False})
        node = self._started(self._make_node(self.path, settings, default_json=lan_document.DEFAULT))
        prober = OldMeshProber()
        lan = LanChart(node, MESH_EXCHANGE, prober=prober)
        self._networks.append(self._started(lan))
        self._lan = lan
        man_net = ManNetChart(exchange_name=MESH_EXCHANGE, settings=self.settings, prober=prober)
        self._networks.append(self._started(man_net))

    def _started(self, chart: Any) -> Any:
        self._charts.append(chart)
        if self._over:
            raise CacheNetError("the program has ended already")
        return chart

    def _tell(self) -> None:
        to_ask: list[str] = []
        with self._lock:
            lan = self._lan
            # Read first: a later result of the `LanChart` causes another call.  The hosts file alone does not count,
            # because it is usually missing and then done at once.
            self._looked = self._looked or (lan is not None and lan.peers(0) is not None)
            told = [each for each in (network.peers(0) for network in list(self._networks)) if each is not None]
            known = (
                self._dialable(peer, to_ask) for peer in [*(host for each in told for host in each.hosts), *self._found]
            )
            self._peers = list(dict.fromkeys(peer for peer in known if peer))
            peers, looked, listeners = self._peers, self._looked and not self._asked, list(self._told)
        for listener in listeners:
            listener(peers, looked)
        # Without the lock: a prober that cannot start a thread answers at once, on this thread.
        for peer in to_ask:
            self._ask(peer)

    def _dialable(self, peer: str, to_ask: list[str]) -> str:
        """`peer`, or its numeric address if a name may not get the password; "" until a probe has found that address.

        The DNS server decides what a name resolves to; a probe sends the password only to trusted addresses.
        """
        host, _port = split_peer(peer)
        if is_numeric(host) or broker_of(self.settings, peer) is not None:
            return peer
        if peer not in self._numeric and peer not in self._asked and is_configured(self.settings, peer):
            self._asked.add(peer)
            to_ask.append(peer)
        return self._numeric.get(peer, "")

    def _ask(self, peer: str) -> None:
        try:
            target = target_for(self.settings, peer, MESH_EXCHANGE)
        except (CacheNetError, ValueError) as error:
            with self._lock:
                self._asked.discard(peer)
            _LOG.warning("nothing goes to %s: %s", peer, error)
            return
        shared_prober().probe(target, partial(self._resolved, peer))

    def _resolved(self, peer: str, result: ProbeResult) -> None:
        with self._lock:
            self._asked.discard(peer)
            if result.verdict not in (Verdict.OK, Verdict.NO_EXCHANGE):
                _LOG.warning("nothing goes to %s: %s", peer, result.detail)
                return
            host = f"[{result.address}]" if ":" in result.address else result.address
            self._numeric[peer] = f"{host}:{result.port}"
        if not self._over:
            self.append(event(CONNECTION_DISCOVERY))


class Discoveries:
    """This process's discoveries; `join` and `leave` may be called from any thread."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start empty, as in a forked child, which has none of its parent's charts."""
        self._lock = threading.Lock()
        self._running: list[Discovery] = []

    def join(self, settings: Settings, told: Told, make_node: MakeNode) -> Discovery:
        """The discovery for `settings`, started if there is none; `told` may be called on any thread."""
        path = cache_path(DEFAULT_FILE)
        with self._lock:
            found = next((each for each in self._running if (each.settings, each.path) == (settings, path)), None)
            discovery = found or Discovery(settings, path, make_node)
            if found is None:
                self._running.append(discovery)
                discovery.begin()
            discovery.add(told)
        return discovery

    def leave(self, discovery: Discovery, told: Told) -> None:
        """Stop calling `told`; the last caller to leave ends the discovery."""
        with self._lock:
            last = discovery.remove(told)
            if last:
                self._running.remove(discovery)
        if last:
            discovery.end()


OF_THIS_PROCESS: Final = Discoveries()
os.register_at_fork(after_in_child=OF_THIS_PROCESS.forget)


def known_from_file() -> list[str]:
    """The peers in the local LAN document, however old; for programs that have not started their networks yet."""
    with contextlib.suppress(CacheNetError, OSError):
        contents = read_once(cache_path(DEFAULT_FILE)).payload("", SYSTEM_CLOCK.wall_ms()).dict
        return lan_document.addresses_in(contents) or []
    return []
