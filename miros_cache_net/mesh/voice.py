"""Sends to the old programs at all brokers, for the term of one speaker."""

from __future__ import annotations

import logging
import threading

from miros_cache_net.clock import Clock
from miros_cache_net.mesh.discovery import MakeNode
from miros_cache_net.mesh.net import Delivered, Net, Plan
from miros_cache_net.mesh.switchboard import MakeLink, Switchboard
from miros_cache_net.mesh.topology import MESH_EXCHANGE
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.wire.keyring import KeyRing, RingProvider
from miros_cache_net.wire.mesh import MeshEvent, MeshEvents, seal_event
from miros_cache_net.wire.token_window import TokenWindow

_LOG = logging.getLogger(__name__)


class Voice:
    """Connects to all brokers from its construction on, including brokers found later; thread-safe.

    Raises `OSError` if the system denies a thread or descriptors.
    """

    def __init__(
        self,
        settings: Settings,
        rings: RingProvider,
        clock: Clock,
        make_link: MakeLink,
        make_node: MakeNode,
        registry: Registry,
    ) -> None:
        def seal(_ring: KeyRing, sender: str, text: str) -> bytes:
            return seal_event(rings(), sender, text)

        self._switchboard = Switchboard(settings, clock, lambda _error: None, make_node, make_link)
        plan = Plan(MESH_EXCHANGE, settings.mesh_tx_routing_key, None)
        form = MeshEvents(TokenWindow(clock), lambda _name: None)
        around = self._switchboard.surroundings(tells=True)
        # Nothing is received, and `seal` holds the mesh's ring, so a key file that is unreadable now does no harm.
        unused = generate_key()
        self._net: Net[MeshEvent] = Net(plan, form, unused, seal, _nothing_comes, around, "mesh", registry)
        self._switchboard.start([self._net], f"the cache {settings.document}")

    def say(self, text: str) -> None:
        """Send an event to every broker, once each is reached."""
        self._net.send(text)

    def said(self, message_id: str) -> bool:
        """Whether this object has sent the message with this id."""
        return self._net.is_own(message_id)

    def heard_from(self, sender: str) -> None:
        """As `Switchboard.heard_from`."""
        self._switchboard.heard_from(sender)

    def stop(self) -> None:
        """End all links and threads; takes some seconds if a broker is lost."""
        self._switchboard.stop()

    def stop_soon(self) -> None:
        """The same on a thread of its own."""
        threading.Thread(target=self.stop, name="mesh falls silent", daemon=True).start()


def _nothing_comes(_what: Delivered, _event: MeshEvent) -> None:
    _LOG.debug("an event came over a link that only sends")
