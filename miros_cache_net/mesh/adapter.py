"""`NetworkedFactory` and `NetworkedActiveObject`: charts that send each other events, as in `miros-rabbitmq`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from miros.event import Event

from miros_cache_net.errors import BrokerError, Reason
from miros_cache_net.mesh import snoop
from miros_cache_net.mesh.config import Key, keys_of, mesh_settings, routing_keys_of
from miros_cache_net.mesh.lan import Lan
from miros_cache_net.mesh.nets import Method, Nets, Properties
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from miros_cache_net.statechart.containment import describe


class NetworkedFactory(Chart):
    """A statechart built as with `miros.Factory`, which exchanges events with charts of other programs and hosts.

    name                      appears in its traces; an event with ``payload == name`` counts as its own
    rabbit_user, rabbit_password, mesh_encryption_key
                              text, the key also bytes; "" or None: from the settings
    tx_routing_key            the key to send with; None: ``"empty"``
    rx_routing_key            the keys to receive, ``*`` for one word and ``#`` for any number; None: `tx_routing_key`
    snoop_spy_encryption_key, snoop_trace_encryption_key
                              None: from the settings, else the mesh's key
    settings                  None: `Settings` from the environment; the arguments above override them

    `start_at` starts to connect and to discover the other brokers, and waits for neither.  The others' events are
    passed to `on_network_message`, which posts them to this chart.  `stop` leaves no thread, connection or queue.
    ``CACHE_ERROR`` reports problems with the chart's own broker.

    Raises `SettingsError` if an argument or setting is malformed, or if there is no key.
    """

    def __init__(
        self,
        name: str,
        rabbit_user: str | None = None,
        rabbit_password: str | None = None,
        mesh_encryption_key: Key | None = None,
        tx_routing_key: str | None = None,
        rx_routing_key: str | None = None,
        snoop_spy_encryption_key: Key | None = None,
        snoop_trace_encryption_key: Key | None = None,
        *,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(name)
        self._spy_in_color = self._trace_in_color = True
        settings = mesh_settings(settings, rabbit_user or "", rabbit_password or "", mesh_encryption_key)
        keys = keys_of(settings, snoop_spy_encryption_key, snoop_trace_encryption_key)
        self.nets = Nets(self, settings, keys, routing_keys_of(tx_routing_key, rx_routing_key))
        self.lan = Lan(lambda: self.nets.other_addresses)

    # --- what programs call -----------------------------------------------------------------------------------

    def start_at(self, initial_state: Any = None) -> None:
        """Start the networks, enter `initial_state`, and run; as `Chart.start_at`."""
        self._refuse_if_forked()
        if not self.running:
            self.nets.start()
        super().start_at(initial_state)

    def stop(self) -> None:
        """Stop the chart, then end its threads, connections and queues."""
        super().stop()
        if not self._forked:
            self.nets.stop()

    def transmit(self, event: Event, *, to_self: bool = False) -> None:
        """Send `event` to every other chart of the mesh whose receiving routing key matches; as `Nets.transmit`."""
        self.nets.transmit(event, to_self=to_self)

    def enable_snoop_trace(self) -> None:
        """Share trace lines with all charts that enable it, and print them in colour; call it before `start_at`."""
        self._trace_in_color = True
        self._enable_snoop_trace()

    def enable_snoop_trace_no_color(self) -> None:
        """As `enable_snoop_trace`, without colours."""
        self._trace_in_color = False
        self._enable_snoop_trace()

    def enable_snoop_spy(self) -> None:
        """Share spy lines with all charts that enable it, and print them in colour; call it before `start_at`."""
        self._spy_in_color = True
        self._enable_snoop_spy()

    def enable_snoop_spy_no_color(self) -> None:
        """As `enable_snoop_spy`, without colours."""
        self._spy_in_color = False
        self._enable_snoop_spy()

    def snoop_scribble(self, message: object, enable_color: bool = True) -> None:
        """Add a remark to the shared trace, or if that is off to the shared spy, or else to this chart's own spy."""
        moment = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")
        line = snoop.scribbled(moment, str(self.name), message, in_color=enable_color)
        if self.nets.snoop.trace.enabled:
            self.nets.broadcast_trace(line)
        elif self.nets.snoop.spy.enabled:
            self.nets.broadcast_spy(line)
        else:
            self.scribble(line)

    def this_url(self) -> str:
        """The URL of this program's own broker, with asterisks for the password."""
        return self.nets.this.url

    def other_urls(self) -> list[str]:
        """The URLs of the other known brokers, with asterisks for the passwords."""
        return self.nets.other_urls

    # --- what a subclass may override; called on a thread of this chart's networks ----------------------------

    def on_network_message(self, ch: None, method: Method, properties: Properties, payload: tuple[str, Any]) -> None:
        """Post another chart's event, unless its payload is this chart's name; `payload`: (sender's address, event)."""
        _sender, event = payload
        if event.payload != self.name:
            self.post_fifo(event)

    def on_network_trace_message(self, ch: None, method: Method, properties: Properties, body: str) -> None:
        """Print a line of some chart's trace."""
        self.print(snoop.trace_line(body, str(self.name)))

    def on_network_trace_message_no_color(self, ch: None, method: Method, properties: Properties, body: str) -> None:
        """As `on_network_trace_message`, after `enable_snoop_trace_no_color`."""
        self.print(snoop.plain_trace_line(body))

    def on_network_spy_message(self, ch: None, method: Method, properties: Properties, body: str) -> None:
        """Print a line of some chart's spy."""
        self.print(snoop.spy_line(body, str(self.name)))

    def on_network_spy_message_no_color(self, ch: None, method: Method, properties: Properties, body: str) -> None:
        """As `on_network_spy_message`, after `enable_snoop_spy_no_color`."""
        self.print(snoop.plain_spy_line(body))

    # --- what its networks call -------------------------------------------------------------------------------

    def heard_event(self, method: Method, properties: Properties, sender: str, event: Event) -> None:
        self.on_network_message(None, method, properties, (sender, event))

    def heard_trace(self, method: Method, properties: Properties, line: str) -> None:
        show = self.on_network_trace_message if self._trace_in_color else self.on_network_trace_message_no_color
        show(None, method, properties, line)

    def heard_spy(self, method: Method, properties: Properties, line: str) -> None:
        show = self.on_network_spy_message if self._spy_in_color else self.on_network_spy_message_no_color
        show(None, method, properties, line)

    def network_trouble(self, error: BrokerError) -> None:
        self.report(error.reason, f"chart {self.name} hears no other program: {error}")

    def network_method_failed(self, error: Exception) -> None:
        what = f"chart {self.name}: a method for what comes from the network raised {describe(error)}"
        self.report(Reason.HANDLER, what, exc=error)

    # --- helpers ----------------------------------------------------------------------------------------------

    def _enable_snoop_trace(self) -> None:
        self.live_trace = True
        self.register_live_trace_callback(self.nets.broadcast_trace)
        self.nets.enable_snoop_trace()

    def _enable_snoop_spy(self) -> None:
        self.live_spy = True
        self.register_live_spy_callback(self.nets.broadcast_spy)
        self.nets.enable_snoop_spy()


class NetworkedActiveObject(NetworkedFactory):
    """As `NetworkedFactory`, for states written as functions, ``@spy_on def state(chart, e)``."""
