"""One of a chart's three networks: it sends to every broker, and receives from its own."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Publication
from miros_cache_net.amqp.topology import Topology
from miros_cache_net.clock import Clock
from miros_cache_net.errors import BrokerError, WireError
from miros_cache_net.mesh.outgoing import Backlog, Outbox, Outgoing, published
from miros_cache_net.mesh.topology import listening_topology, sending_topology
from miros_cache_net.observe import families
from miros_cache_net.observe.registry import Registry
from miros_cache_net.wire.door import Door, Format
from miros_cache_net.wire.keyring import KeyRing

M = TypeVar("M")

_LOG = logging.getLogger(__name__)


class Plan(NamedTuple):
    """tx: the routing key to send with; rx: the pattern to receive, None: it only sends."""

    exchange: str
    tx: str
    rx: str | None


class Delivered(NamedTuple):
    """A delivery's metadata: pika's method and properties in one.

    `delivery_tag` counts this network's deliveries; `app_id` and `message_id` are claims of the sender.
    """

    exchange: str
    routing_key: str
    delivery_tag: int
    app_id: str
    message_id: str


class Surroundings(NamedTuple):
    """What a network needs from its surroundings.

    link       makes an unstarted link to this program's own broker ("") or to a peer
    sender     maps a broker's numeric address to the sender's address for messages to it
    wake       arranges for a call of `pump` soon
    trouble    called with an error of the link to this program's own broker ("") or to a peer
    longest_s  as for `Outbox`
    """

    link: Callable[[str, Topology], Link]
    sender: Callable[[str], str]
    wake: Callable[[], None]
    trouble: Callable[[str, BrokerError], None]
    clock: Clock
    longest_s: float


class Net(Generic[M]):
    """`pump` is for one thread; `send`, `have_peers` and `change_key` may be called from any.

    seal    (ring, sender's address, text) -> body
    heard   called with each delivery's metadata and message, on the link's thread
    name, registry  under which name it counts, and where
    """

    def __init__(
        self,
        plan: Plan,
        form: Format[M],
        key: bytes,
        seal: Callable[[KeyRing, str, str], bytes],
        heard: Callable[[Delivered, M], None],
        around: Surroundings,
        name: str,
        registry: Registry,
    ) -> None:
        self.plan, self._seal, self._heard, self._around = plan, seal, heard, around
        self.key = key
        self._ring = KeyRing((key,))
        self._counted = registry.labelled(families.NET_MESSAGES, name)
        refused = registry.labelled(families.NET_REFUSED, name)
        self._door = Door(lambda: self._ring, form, clock=around.clock, counted=refused)
        self._boot = secrets.token_hex(8)
        self._sequence, self._deliveries = itertools.count(1), itertools.count(1)
        self._lock = threading.Lock()
        self._boxes: dict[str, _Broker] = {}
        #: Messages sent before all peers were known, which peers found later get too; None once they are known.
        self._early: Backlog | None = Backlog()
        self._ids: OrderedDict[str, None] = OrderedDict()
        registry.gauge(families.NET_WAITING, self._waiting, name)  # last: it may be read at once

    # --- for any thread -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the link to this program's own broker."""
        exchange, rx = self.plan.exchange, self.plan.rx
        topology = sending_topology(exchange) if rx is None else listening_topology(exchange, rx)
        self._add("", self._around.link("", topology))

    def stop(self) -> list[Link]:
        """Stop sending; returns the links, which the caller has to stop.  The network may be started again."""
        with self._lock:
            brokers, self._boxes = list(self._boxes.values()), {}
            self._early = Backlog()
        return [broker.box.link for broker in brokers]

    def send(self, text: str) -> None:
        """Queue `text` for every broker; until all peers are known, it is also kept for those found later."""
        sequence = next(self._sequence)
        item = Outgoing(text, sequence, f"{self._boot}-{sequence}", self._around.clock.monotonic_s())
        with self._lock:
            boxes = [broker.box for broker in self._boxes.values()]
            if self._early is not None:
                self._early.append(item)
        for box in boxes:
            box.put(item)
        if boxes:
            self._around.wake()

    def flush(self) -> None:
        """Pass what waits to the links that are up, whoever listens there: no more comes after it.  As `pump`."""
        for box in self._all():
            box.look_no_more()
            box.pump()

    def have_peers(self, peers: list[str], *, known: bool) -> None:
        """Send to these peers too; `known`: discovery is done, so keep no messages for peers that are found later."""
        with self._lock:
            new = [peer for peer in peers if peer not in self._boxes] if "" in self._boxes else []
        for peer in new:
            self._add(peer, self._around.link(peer, sending_topology(self.plan.exchange)))
        if known:
            with self._lock:
                self._early = None

    def drop_peer(self, peer: str) -> Link | None:
        """Stop sending to `peer`; returns its link, which the caller has to stop."""
        with self._lock:
            broker = self._boxes.pop(peer, None)
        return None if broker is None else broker.box.link

    def change_key(self, key: bytes) -> None:
        """Seal and open with this key only, from now on."""
        self._ring, self.key = KeyRing((key,)), key

    def is_own(self, message_id: str) -> bool:
        """Whether a message with this id is one that this network has sent."""
        return message_id.startswith(self._boot)

    @property
    def connected(self) -> bool:
        """Whether the link to this program's own broker is up."""
        broker = self._boxes.get("")
        return broker is not None and broker.is_up

    @property
    def peers(self) -> set[str]:
        """The peers to which it sends, without its own broker."""
        with self._lock:
            return self._boxes.keys() - {""}

    def dialled(self) -> dict[str, str]:
        """The numeric address of each link that has been up, by peer, "" for this program's own broker."""
        with self._lock:
            return {peer: broker.host for peer, broker in self._boxes.items() if broker.host}

    # --- for one thread -------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Pass waiting messages to the links, as many as those may have in flight."""
        for box in self._all():
            box.pump()

    # --- for the links' threads -----------------------------------------------------------------------------

    def delivered(self, delivery: Delivery) -> None:
        """Take one message from this program's own broker."""
        if self._came_before(delivery.message_id):
            return
        try:
            message = self._door.open(delivery.body, routing_key=delivery.routing_key)
        except WireError:
            return
        self._note(delivery.message_id)
        what = Delivered(
            delivery.exchange, delivery.routing_key, next(self._deliveries), delivery.app_id, delivery.message_id
        )
        self._heard(what, message)

    def sender_for(self, host: str) -> str:
        return self._around.sender(host)

    def note_trouble(self, peer: str, error: BrokerError) -> None:
        self._around.trouble(peer, error)

    # --- helpers --------------------------------------------------------------------------------------------

    def _waiting(self) -> int:
        return sum(box.waiting for box in self._all())

    def _all(self) -> list[Outbox]:
        with self._lock:
            return [broker.box for broker in self._boxes.values()]

    def _add(self, peer: str, link: Link) -> None:
        broker = _Broker(self, peer)

        def publication(item: Outgoing) -> Publication:
            body = self._seal(self._ring, broker.sender, item.text)
            return published(broker.box, item, body, self.plan.exchange, self.plan.tx)

        broker.box = Outbox(
            link,
            publication,
            self._around.wake,
            self._around.clock.monotonic_s,
            self._around.longest_s,
            self._counted,
        )
        with self._lock:
            if peer in self._boxes:
                return
            self._boxes[peer] = broker
            for item in self._early or ():
                broker.box.put(item)
        try:
            link.start(broker)
        except OSError as error:
            # Forgotten, so that the next list of peers, or the next start of the chart, tries it again.
            with self._lock:
                self._boxes.pop(peer, None)
            if not peer:
                raise
            _LOG.warning("no link to %s for now: %s", peer, error)

    def _came_before(self, message_id: str) -> bool:
        """Whether the message is this network's own, back through a broker cluster, or has already arrived."""
        if self.is_own(message_id):
            return True
        with self._lock:
            repeated = bool(message_id) and message_id in self._ids
        if repeated:
            self._counted.add("repeated")
        return repeated

    def _note(self, message_id: str) -> None:
        self._counted.add("received")
        with self._lock:
            if message_id:
                self._ids[message_id] = None
                if len(self._ids) > limits.MESH_IDS:
                    self._ids.popitem(last=False)


class _Broker:
    """The listener of one link."""

    box: Outbox

    def __init__(self, net: Net[M], peer: str) -> None:
        self._net, self._peer = net, peer
        self.host = self.sender = ""
        self.is_up = False

    def link_up(self, up: LinkUp) -> None:
        self.host, self.is_up = up.host, True
        # once a link: it may ask the kernel for this host's address
        self.sender = self._net.sender_for(up.host)
        self.box.up()

    def link_down(self, error: BrokerError) -> None:
        self.is_up = False
        self.box.down()
        self._net.note_trouble(self._peer, error)

    def delivered(self, delivery: Delivery) -> None:
        self._net.delivered(delivery)
