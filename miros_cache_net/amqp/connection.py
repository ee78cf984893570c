"""The link to a real RabbitMQ: one thread, two connections, reconnecting for ever."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial

from miros_cache_net.amqp import topology
from miros_cache_net.amqp.link import LinkListener, Place, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.link_thread import LinkThread
from miros_cache_net.amqp.outbox import Outbox
from miros_cache_net.amqp.pika_loop import quieten_pika
from miros_cache_net.amqp.pika_parameters import tls_context
from miros_cache_net.amqp.reconnect import Reconnect
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.settings.broker_address import BrokerAddress

#: `stop` returns within this, whatever the broker does.
_STOP_S = 5.0


class RabbitLink:
    """A `Link` (see there for the contract) to the RabbitMQ cluster that `addresses` name.

    addresses        tried in turn; without user they log in as guest
    connection_name  what RabbitMQ lists the connections as

    What somebody deletes at the broker under the link (queue, exchange) costs the session: both connections are
    made anew at once.  Raises `SettingsError` for names AMQP cannot carry or authorities that cannot be read.
    """

    def __init__(
        self,
        place: Place,
        addresses: Sequence[BrokerAddress],
        *,
        options: LinkOptions | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        connection_name: str = "miros-cache-net",
    ) -> None:
        if not addresses:
            raise ValueError("a link needs at least one address")
        self._place = topology.check_place(place)
        self._options = options or LinkOptions()
        self._tls = tls_context(self._options) if any(address.tls for address in addresses) else None
        self._name = connection_name
        self._reconnect = Reconnect(tuple(addresses), clock, rng or random.Random())
        self._outbox = Outbox()
        self._lock = threading.Lock()
        self._thread: LinkThread | None = None
        self._serve = False
        self._stopped = False

    def start(self, listener: LinkListener) -> None:
        """As `Link.start`.  RuntimeError the second time, and after `stop`."""
        with self._lock:
            if self._thread is not None or self._stopped:
                raise RuntimeError("a link starts once")
            quieten_pika()
            self._thread = LinkThread(
                self._place,
                self._options,
                self._tls,
                self._name,
                self._reconnect,
                self._outbox,
                listener,
            )
            self._thread.call(partial(self._thread.serve_requests, self._serve))
            self._thread.call(self._thread.pump)
            self._thread.start()

    def publish(self, publication: Publication) -> None:
        """As `Link.publish`; after `stop`, ``done(False)`` is called on the calling thread.

        Raises ValueError or `SettingsError` for a publication that no broker could carry.
        """
        topology.destination(self._place, publication)
        wake = self._outbox.hand_over(publication)
        thread = self._thread
        if wake and thread is not None:
            thread.call(thread.pump)

    def serve_requests(self, serve: bool) -> None:
        """As `Link.serve_requests`; may be called before `start`."""
        with self._lock:
            self._serve = serve
            if self._thread is not None:
                self._thread.call(partial(self._thread.serve_requests, serve))

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        """As `Link.acquire_lease`; after `stop` or before `start`, ``done(False)`` is called on the calling thread."""
        thread = self._thread
        if thread is None or self._stopped:
            done(False)
        else:
            thread.call(partial(thread.acquire_lease, done))

    def release_lease(self) -> None:
        """As `Link.release_lease`."""
        thread = self._thread
        if thread is not None:
            thread.call(thread.release_lease)

    def stop(self) -> None:
        """As `Link.stop`.  On the link's own thread (in a listener) it returns at once and the link ends soon."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        if thread is None:
            self._outbox.fail_all()
        else:
            thread.call(thread.stop)
            if thread is not threading.current_thread():
                thread.join(_STOP_S)
