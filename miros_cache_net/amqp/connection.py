"""The link to a real RabbitMQ: two connections on one thread, which links may share; reconnects for ever."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial

from miros_cache_net.amqp import sharing
from miros_cache_net.amqp.link import LinkListener, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.link_thread import LinkThread
from miros_cache_net.amqp.look_up import GetAddrInfo
from miros_cache_net.amqp.outbox import Outbox
from miros_cache_net.amqp.pika_loop import quieten_pika
from miros_cache_net.amqp.pika_parameters import tls_context
from miros_cache_net.amqp.reconnect import Reconnect
from miros_cache_net.amqp.tenant import Tenant
from miros_cache_net.amqp.topology import Topology, destination
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.settings.broker_address import BrokerAddress

#: `stop` returns within this, whatever the broker does.
_STOP_S = 5.0


class RabbitLink:
    """A `Link` (see there for the contract) to the RabbitMQ cluster that `addresses` name.

    topology         what to declare on each (re)connection
    addresses        tried in turn, each with all IP addresses of its name; without a user, log in as guest
    connection_name  name of the connections in RabbitMQ's listings
    share            links of this process with equal `share`, addresses, options and name use one pair of connections
                     and one thread; None: this link has its own pair
    getaddrinfo      resolves host names

    If a queue or exchange is deleted at the broker under the link, it reconnects at once; if other links share the
    connections, only this link's channels are reopened.  Raises `SettingsError` if the TLS files cannot be used.
    """

    def __init__(
        self,
        topology: Topology,
        addresses: Sequence[BrokerAddress],
        *,
        options: LinkOptions | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        connection_name: str = "miros-cache-net",
        share: Hashable = None,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
    ) -> None:
        if not addresses:
            raise ValueError("a link needs at least one address")
        self.topology = topology
        self._addresses = tuple(addresses)
        self._options = options or LinkOptions()
        self._tls = tls_context(self._options) if any(address.tls for address in addresses) else None
        self._name = connection_name
        self._clock, self._rng = clock, rng or random.Random()
        self._share = object() if share is None else share
        self._getaddrinfo = getaddrinfo
        self._outbox = Outbox()
        self._lock = threading.Lock()
        self._thread: LinkThread | None = None
        self._tenant: Tenant | None = None
        self._serve = False
        self._stopped = False
        self._is_last = False

    def start(self, listener: LinkListener) -> None:
        """As `Link.start`.  Raises RuntimeError the second time, and after `stop`."""
        with self._lock:
            if self._thread is not None or self._stopped:
                raise RuntimeError("a link can be started only once")
            quieten_pika()
            tenant = Tenant(self.topology, self._options, self._name, self._outbox, listener, self._clock, self._rng)
            key = (self._share, self._addresses, self._options, self._name)
            thread = sharing.of_this_process.join(key, self.topology, self._new_thread)
            self._thread, self._tenant = thread, tenant
            thread.call(partial(tenant.serve_requests, self._serve))
            thread.call(partial(thread.add, tenant))
            thread.call(tenant.pump)

    def _new_thread(self) -> LinkThread:
        reconnect = Reconnect(self._addresses, self._clock, self._rng)
        return LinkThread(self._options, self._tls, self._name, reconnect, self._getaddrinfo)

    def publish(self, publication: Publication) -> None:
        """As `Link.publish`; after `stop`, ``done(False)`` is called on the calling thread.

        Raises ValueError for a publication that no broker could carry, or whose destination is not in the topology.
        """
        destination(self.topology, publication)
        wake = self._outbox.hand_over(publication)
        if wake and self._tenant is not None:
            self._call(self._tenant.pump)

    def serve_requests(self, serve: bool) -> None:
        """As `Link.serve_requests`; may be called before `start`."""
        with self._lock:
            self._serve = serve
            if self._tenant is not None:
                self._call(partial(self._tenant.serve_requests, serve))

    @property
    def silent_s(self) -> float | None:
        """As `Link.silent_s`."""
        return None if self._tenant is None else self._tenant.silent_s

    @property
    def alarm(self) -> str:
        """As `Link.alarm`."""
        return "" if self._tenant is None else self._tenant.alarm

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        """As `Link.acquire_lease`; after `stop` or before `start`, ``done(False)`` is called on the calling thread."""
        if self._tenant is None or self._stopped:
            done(False)
        else:
            self._call(partial(self._tenant.acquire_lease, done))

    def release_lease(self) -> None:
        """As `Link.release_lease`."""
        if self._tenant is not None:
            self._call(self._tenant.release_lease)

    def stop(self) -> None:
        """As `Link.stop`.  On the link's own thread (in a listener) it returns at once; the link ends soon after."""
        with self._lock:
            first, self._stopped = not self._stopped, True
            thread, tenant = self._thread, self._tenant
            if first and thread is not None and tenant is not None:
                self._is_last = sharing.of_this_process.leave(thread, self.topology)
                thread.call(partial(thread.remove, tenant, self._is_last))
        if thread is None or tenant is None:
            self._outbox.fail_all()
        elif thread is threading.current_thread():
            return
        elif self._is_last:
            thread.join(_STOP_S)
        elif thread.is_alive():
            tenant.gone.wait(_STOP_S)

    def _call(self, function: Callable[[], None]) -> None:
        if self._thread is not None:
            self._thread.call(function)
