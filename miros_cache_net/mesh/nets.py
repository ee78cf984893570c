"""`chart.nets`: a chart's three networks, under the names that programs of `miros-rabbitmq` use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

from miros.event import Event

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import BrokerError
from miros_cache_net.events import event as event_of
from miros_cache_net.mesh import topology
from miros_cache_net.mesh.addresses import own_address, starred_url
from miros_cache_net.mesh.config import Key, Keys, RoutingKeys
from miros_cache_net.mesh.inbox import Inbox
from miros_cache_net.mesh.net import Delivered, Net, Plan
from miros_cache_net.mesh.signal_names import OF_THIS_PROCESS
from miros_cache_net.mesh.switchboard import Switchboard
from miros_cache_net.node import CacheNode
from miros_cache_net.observe import families
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import canonical_key
from miros_cache_net.wire.keyring import KeyRing
from miros_cache_net.wire.mesh import MeshEvent, MeshEvents, SnoopLines, event_text, seal_event, seal_line
from miros_cache_net.wire.token_window import TokenWindow

_CLOSE_S = 2.0


class Method(NamedTuple):
    """The delivery, as passed to an ``on_network_*`` method."""

    routing_key: str
    delivery_tag: int
    exchange: str


class Properties(NamedTuple):
    """The sender's own claims, as passed to an ``on_network_*`` method."""

    app_id: str
    message_id: str


class NetworkedChart(Protocol):
    """The chart that owns the networks; its methods may be called on any thread."""

    name: str

    def heard_event(self, method: Method, properties: Properties, sender: str, event: Event) -> None: ...

    def heard_trace(self, method: Method, properties: Properties, line: str) -> None: ...

    def heard_spy(self, method: Method, properties: Properties, line: str) -> None: ...

    def network_trouble(self, error: BrokerError) -> None: ...

    def network_method_failed(self, error: Exception) -> None: ...


class NetFacade:
    """One network, as `nets.mesh`, `nets.snoop.spy` and `nets.snoop.trace` show it.  Its `repr` hides the key."""

    def __init__(self, net: Net[Any]) -> None:
        self._net = net
        self.enabled = False

    @property
    def connected(self) -> bool:
        """Whether the link to this program's own broker is up."""
        return self._net.connected

    @property
    def encryption_key(self) -> bytes:
        return self._net.key

    @property
    def exchange_name(self) -> str:
        return self._net.plan.exchange

    @property
    def routing_key(self) -> str:
        return self._net.plan.tx

    tx_routing_key = routing_key

    @property
    def rx_routing_key(self) -> str:
        return self._net.plan.rx or ""


class Snoop(NamedTuple):
    """`nets.snoop`."""

    spy: NetFacade
    trace: NetFacade


class This(NamedTuple):
    """`nets.this`; `url`: the URL of this program's own broker, with asterisks for the password."""

    url: str


class Nets:
    """Created, started and stopped with its chart.  All methods are thread-safe; none blocks on a network."""

    MESH_EXCHANGE: ClassVar = topology.MESH_EXCHANGE
    SPY_EXCHANGE: ClassVar = topology.SPY_EXCHANGE
    TRACE_EXCHANGE: ClassVar = topology.TRACE_EXCHANGE
    SPY_ROUTING_KEY: ClassVar = topology.SPY_ROUTING_KEY
    TRACE_ROUTING_KEY: ClassVar = topology.TRACE_ROUTING_KEY

    def __init__(
        self,
        chart: NetworkedChart,
        settings: Settings,
        keys: Keys,
        routing_keys: RoutingKeys,
        *,
        clock: Clock = SYSTEM_CLOCK,
        switchboard: Switchboard | None = None,
    ) -> None:
        self._chart, self.settings, self._clock = chart, settings, clock
        self._switchboard = switchboard or Switchboard(settings, clock, chart.network_trouble, CacheNode)
        self._registry = Registry()
        self._inbox = self._lines = self._new_inbox("mesh")
        events = MeshEvents(self._window(), OF_THIS_PROCESS.check)
        plan = Plan(topology.MESH_EXCHANGE, routing_keys.tx, routing_keys.rx)
        around = self._switchboard.surroundings(tells=True)
        self._mesh = Net(plan, events, keys.mesh, seal_event, self._heard_event, around, "mesh", self._registry)
        self._spy = self._snoop_net("spy", topology.SPY_EXCHANGE, topology.SPY_ROUTING_KEY, keys.spy, self._heard_spy)
        self._trace = self._snoop_net(
            "trace", topology.TRACE_EXCHANGE, topology.TRACE_ROUTING_KEY, keys.trace, self._heard_trace
        )
        self.mesh = NetFacade(self._mesh)
        self.snoop = Snoop(NetFacade(self._spy), NetFacade(self._trace))

    # --- what programs use ------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._chart.name

    @property
    def this(self) -> This:
        return This(starred_url(self.settings, own_address(self.settings)))

    @property
    def ip_addresses(self) -> list[str]:
        """The addresses of all brokers that it sends to, this program's own first."""
        return [own_address(self.settings), *self._switchboard.peers()]

    @property
    def other_addresses(self) -> list[str]:
        """The addresses of all brokers that it sends to, without this program's own."""
        return self._switchboard.peers()

    @property
    def other_urls(self) -> list[str]:
        """The URLs of `other_addresses`, with asterisks for the passwords."""
        return [starred_url(self.settings, peer) for peer in self._switchboard.peers()]

    @property
    def counters(self) -> Counter[str]:
        """Message counts by network and outcome: ``mesh_received``, ``mesh_refused_malformed``, ``spy_sent``..."""
        names = {
            families.NET_MESSAGES: "{}_{}",
            families.NET_REFUSED: "{}_refused_{}",
            families.NET_WAITING: "{}_waiting",
            families.NET_UNHANDLED: "{}_unhandled",
        }
        samples = self._registry.samples()
        return +Counter({names[each.family].format(*each.values): each.number for each in samples})

    def transmit(self, event: Event, *, to_self: bool = False) -> None:
        """Send `event` to every other chart whose receiving routing key matches; `to_self`: to its own chart too.

        The event waits while the brokers are unknown, and for each broker that is down; beyond
        `limits.MESH_OUTBOX_EVENTS` waiting events the oldest is dropped and counted.  Raises `EventNotSendable`, a
        `TypeError`, if JSON cannot represent the payload, and `TypeError` if `event` is not an `Event`.
        """
        if not isinstance(event, Event):
            raise TypeError(f"only a miros Event can be transmitted, not {type(event).__name__}")
        self._mesh.send(event_text(event.signal_name, event.payload))
        if to_self:
            what = Delivered(topology.MESH_EXCHANGE, self._mesh.plan.tx, 0, "", "")
            self._inbox.put(self._chart.heard_event, *_told(what), own_address(self.settings), event)

    def broadcast_spy(self, message: str) -> None:
        """Send a spy line, prefixed with the chart's name, to every chart that listens, including this one."""
        line = f"{self.name} {message}"
        self._broadcast(self._spy, self.snoop.spy, line, self._chart.heard_spy)

    def broadcast_trace(self, message: str) -> None:
        """Send a trace line, without a prefix, to every chart that listens, including this one."""
        self._broadcast(self._trace, self.snoop.trace, message, self._chart.heard_trace)

    def enable_snoop_spy(self) -> None:
        """Make `start` connect the spy network too."""
        self.snoop.spy.enabled = True

    def enable_snoop_trace(self) -> None:
        """Make `start` connect the trace network too."""
        self.snoop.trace.enabled = True

    def change_mesh_encryption_key(self, encryption_key: Key) -> None:
        """Seal and open with this key only, from now on.  Raises `SettingsError` if the key is malformed."""
        self._mesh.change_key(canonical_key(encryption_key, "encryption_key"))

    def change_spy_encryption_key(self, encryption_key: Key) -> None:
        """As `change_mesh_encryption_key`, for the spy network."""
        self._spy.change_key(canonical_key(encryption_key, "encryption_key"))

    def change_trace_encryption_key(self, encryption_key: Key) -> None:
        """As `change_mesh_encryption_key`, for the trace network."""
        self._trace.change_key(canonical_key(encryption_key, "encryption_key"))

    # The spelling of `miros-rabbitmq`.
    change_mesh_encyption_key = change_mesh_encryption_key
    change_spy_encyption_key = change_spy_encryption_key
    change_trace_encyption_key = change_trace_encryption_key

    # --- what its chart does ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._inbox, self._lines = self._new_inbox("mesh"), self._new_inbox("lines")
        snooping = [
            net for net, shown in ((self._spy, self.snoop.spy), (self._trace, self.snoop.trace)) if shown.enabled
        ]
        self._switchboard.start([self._mesh, *snooping], self.name)

    def stop(self) -> None:
        """End all threads, connections and queues; may be called any number of times."""
        self._switchboard.stop()
        self._inbox.close(_CLOSE_S)
        self._lines.close(_CLOSE_S)

    # --- helpers ----------------------------------------------------------------------------------------------

    def _window(self) -> TokenWindow:
        # Older tokens are refused, because this process does not remember which of them it has already seen.
        not_before_s = (self._clock.wall_ms() - limits.CLOCK_AHEAD_MS) / 1000
        return TokenWindow(self._clock, age_s=self.settings.mesh_token_age_s, not_before_s=not_before_s)

    def _new_inbox(self, what: str) -> Inbox:
        dropped = self._registry.counter(families.NET_UNHANDLED, what)
        return Inbox(f"{what} for {self._chart.name}", limits.MESH_INBOX, self._chart.network_method_failed, dropped)

    def _snoop_net(
        self, name: str, exchange: str, key: str, secret: bytes, heard: Callable[[Delivered, str], None]
    ) -> Net[str]:
        def seal(ring: KeyRing, _sender: str, line: str) -> bytes:
            return seal_line(ring, line)

        around = self._switchboard.surroundings(tells=False)
        return Net(
            Plan(exchange, key, key), SnoopLines(self._window()), secret, seal, heard, around, name, self._registry
        )

    def _broadcast(
        self, net: Net[str], shown: NetFacade, line: str, heard: Callable[[Method, Properties, str], None]
    ) -> None:  # fmt: skip
        if shown.enabled:
            net.send(line)
            self._lines.put(heard, *_told(Delivered(net.plan.exchange, net.plan.tx, 0, "", "")), line)

    def _heard_event(self, what: Delivered, message: MeshEvent) -> None:
        self._switchboard.heard_from(message.sender)
        event = event_of(message.signal_name, message.payload)
        self._inbox.put(self._chart.heard_event, *_told(what), message.sender, event)

    def _heard_spy(self, what: Delivered, line: str) -> None:
        self._lines.put(self._chart.heard_spy, *_told(what), line)

    def _heard_trace(self, what: Delivered, line: str) -> None:
        self._lines.put(self._chart.heard_trace, *_told(what), line)


def _told(what: Delivered) -> tuple[Method, Properties]:
    return (
        Method(what.routing_key, what.delivery_tag, what.exchange),
        Properties(what.app_id, what.message_id),
    )
