"""The links of one chart's networks: to its own broker, and to discovered brokers as they come and go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from miros_cache_net.amqp.link import Link
from miros_cache_net.amqp.mailbox import ThreadMailbox
from miros_cache_net.amqp.topology import Topology
from miros_cache_net.clock import Clock
from miros_cache_net.discovery.peers import peer_broker
from miros_cache_net.errors import BrokerError
from miros_cache_net.fleet.links import link_of, sharing_of
from miros_cache_net.mesh import discovery
from miros_cache_net.mesh.addresses import broker_of, is_own, own_address, sender_of, where_it_runs
from miros_cache_net.mesh.net import Net, Surroundings
from miros_cache_net.settings import Settings

_LOG = logging.getLogger(__name__)

#: How long a peer that has left the LAN document keeps its link: usually it is only restarting.
PEER_KEPT_S = 300.0
_CLOSE_S = 2.0

MakeLink = Callable[[Settings, str, Topology], Link]


def mesh_link(settings: Settings, peer: str, topology: Topology) -> Link:
    """A link to `peer`, or to this program's own broker if that is "", on connections that the process shares."""
    broker = broker_of(settings, peer) if peer else None
    addresses = settings.amqp_urls if broker is None else (broker,)
    return link_of(settings, topology, addresses, share=sharing_of(settings))


class Switchboard:
    """`start`, `stop`, `wake`, `heard_from` and `peers` are for any thread; a thread of its own does the sending.

    trouble    called with an error of the link to this program's own broker
    make_node  makes the `CacheNode` of the LAN document
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        trouble: Callable[[BrokerError], None],
        make_node: discovery.MakeNode,
        make_link: MakeLink = mesh_link,
    ) -> None:
        self.settings, self._clock, self._trouble = settings, clock, trouble
        self._make_node, self._make_link = make_node, make_link
        self._lock = threading.Lock()
        self._nets: Sequence[Net[Any]] = ()
        self._mailbox: ThreadMailbox | None = None
        self._woken = False
        self._discovery: discovery.Discovery | None = None
        self._gone: dict[str, float] = {}
        self._refused: set[str] = set()
        self._twins: set[str] = set()
        self._dialled: list[dict[str, str]] = []
        self._senders: frozenset[str] = frozenset()
        self._warned_of: set[str] = set()

    def surroundings(self, *, tells: bool) -> Surroundings:
        """What a network needs; of several networks that share connections only one `tells` of their errors."""
        return Surroundings(
            link=lambda peer, topology: self._make_link(self.settings, peer, topology),
            sender=self._sender,
            wake=self.wake,
            trouble=self._troubled if tells else lambda _peer, _error: None,
            clock=self._clock,
            longest_s=self.settings.mesh_token_age_s,
        )

    def start(self, nets: Sequence[Net[Any]], name: str) -> None:
        """Begin to connect `nets`, and to discover the other brokers; returns at once."""
        with self._lock:
            self._nets, self._mailbox, self._woken = nets, ThreadMailbox(f"mesh of {name}"), False
            self._twins.clear()
        try:
            for net in nets:
                net.start()
        except BaseException:
            self.stop()
            raise
        self._discovery = discovery.OF_THIS_PROCESS.join(self.settings, self._told, self._make_node)

    def stop(self) -> None:
        """End all links and threads; first passes waiting messages to the links, if that is quick."""
        found, self._discovery = self._discovery, None
        if found is not None:
            discovery.OF_THIS_PROCESS.leave(found, self._told)
        with self._lock:
            nets, self._nets = self._nets, ()
            mailbox, self._mailbox = self._mailbox, None
        if mailbox is None:
            return
        mailbox.post(_flush, nets)
        mailbox.close(_CLOSE_S)
        _stop_all([link for net in nets for link in net.stop()])

    def wake(self) -> None:
        """Arrange for a call of `pump`, because a message waits."""
        with self._lock:
            if self._mailbox is not None and not self._woken:
                self._woken = True
                self._mailbox.post(self._pump)

    def heard_from(self, sender: str) -> None:
        """An event came from a program at the broker `sender`; look again if it is unknown, but do not dial it."""
        found = self._discovery
        if found is not None and sender not in self._senders and sender != own_address(self.settings):
            found.look_again()

    def peers(self) -> list[str]:
        """The other known brokers: from the discovery, or before its start from the LAN document's file."""
        known = discovery.known_from_file() if self._discovery is None else self._discovery.peers()
        return [peer for peer in known if not is_own(self.settings, peer) and peer not in self._twins]

    # --- on other threads -----------------------------------------------------------------------------------

    def _told(self, peers: list[str], known: bool) -> None:
        self._post(self._have_peers, peers, known)

    def _troubled(self, peer: str, error: BrokerError) -> None:
        found = self._discovery
        if not peer:
            self._trouble(error)
        elif found is not None:
            _LOG.warning("nothing goes to %s: %s", peer, error)
            found.report_failure(peer)

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        with self._lock:
            if self._mailbox is not None:
                self._mailbox.post(function, *args)

    def _sender(self, dialled: str) -> str:
        if ":" in where_it_runs(dialled) and not self.settings.mesh_sender and dialled not in self._warned_of:
            self._warned_of.add(dialled)
            _LOG.warning(
                "programs of miros-rabbitmq know the broker at %s by an IPv4 address: if any use it, put that into "
                "MIROS_CACHE_MESH_SENDER, because a sender that they do not know makes them deaf", dialled
            )  # fmt: skip
        return sender_of(self.settings, dialled)

    # --- on its own thread ----------------------------------------------------------------------------------

    def _pump(self) -> None:
        with self._lock:
            self._woken = False
            nets = self._nets
        _pump(nets)
        dialled = [net.dialled() for net in nets]
        if dialled != self._dialled:
            self._dialled = dialled
            hosts = {host for each in dialled for host in each.values()}
            self._senders = frozenset(hosts | {sender_of(self.settings, host) for host in hosts})
            self._part_twins()

    def _have_peers(self, peers: list[str], known: bool) -> None:
        others = [peer for peer in peers if peer not in self._twins and self._may_be_sent_to(peer)]
        for net in self._nets:
            net.have_peers(others, known=known)
        self._forget_those_gone(set(others))
        self._pump()

    def _may_be_sent_to(self, peer: str) -> bool:
        try:
            if is_own(self.settings, peer):
                return False
            if broker_of(self.settings, peer) is not None:
                return True
        except ValueError:
            return False
        if peer not in self._refused:
            self._refused.add(peer)
            _LOG.warning("nothing goes to %s: the password may not, see MIROS_CACHE_TRUSTED_NETWORKS", peer)
        return False

    def _forget_those_gone(self, present: set[str]) -> None:
        now_s = self._clock.monotonic_s()
        for peer in set().union(*(net.peers for net in self._nets)) - present:
            if now_s - self._gone.setdefault(peer, now_s) > PEER_KEPT_S:
                self._drop(peer)
        self._gone = {peer: since_s for peer, since_s in self._gone.items() if peer not in present}

    def _part_twins(self) -> None:
        """Drop second names of one broker, and other names of this program's own, so that it gets each event once."""
        for net in self._nets:
            seen: dict[tuple[str, int], str] = {}
            for peer, host in sorted(net.dialled().items()):
                first = seen.setdefault((where_it_runs(host), self._port(peer)), peer)
                if first != peer:
                    self._twins.add(peer)
        for peer in self._twins:
            self._drop(peer)

    def _port(self, peer: str) -> int:
        return peer_broker(self.settings, peer).port if peer else self.settings.amqp_urls[0].port

    def _drop(self, peer: str) -> None:
        links = [link for net in self._nets if (link := net.drop_peer(peer)) is not None]
        if links:
            threading.Thread(target=_stop_all, args=(links,), name=f"mesh leaves {peer}", daemon=True).start()


def _flush(nets: Sequence[Net[Any]]) -> None:
    for net in nets:
        net.flush()


def _pump(nets: Sequence[Net[Any]]) -> None:
    for net in nets:
        net.pump()


def _stop_all(links: Sequence[Link]) -> None:
    """Stop all links in parallel, because each may take seconds if its broker is gone."""
    threads = [threading.Thread(target=link.stop, daemon=True) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
