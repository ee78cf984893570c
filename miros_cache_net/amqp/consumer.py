"""What one link declares and consumes on one connection: its own queue, the request queue and the lease."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from miros_cache_net import limits
from miros_cache_net.amqp.acks import Acks
from miros_cache_net.amqp.deliveries import delivery_of
from miros_cache_net.amqp.lease import Lease
from miros_cache_net.amqp.link import Delivery
from miros_cache_net.amqp.own_channels import OwnChannels
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.amqp.request_queue import Guard, RequestQueue
from miros_cache_net.amqp.topology import Binding, Topology, canary_key
from miros_cache_net.errors import TopologyLost


class Consumer:
    """Channels for the link's own queue, the request queue and the lease; runs on the link's thread.

    guard      wraps our callbacks and contains their exceptions
    lost       called with the cause when the consumer has failed
    token      this link's random id, by which it drops its own broadcasts and knows its canaries
    declared   called once its own queue exists and the request queue has been tried; call `consume` then
    consuming  called once the broker consumes, before any delivery; at once if the link has no queue of its own
    delivered  called with each message for the listener
    heard      called for each message that came through the canary's exchange, and whether it was a canary
    news       as for `RequestQueue`
    """

    def __init__(
        self,
        services: LinkServices,
        connection: Any,
        guard: Guard,
        lost: Callable[[BaseException], None],
        *,
        topology: Topology,
        token: str,
        declared: Callable[[], None],
        consuming: Callable[[], None],
        delivered: Callable[[Delivery], None],
        heard: Callable[[bool], None],
        news: Callable[[BaseException | None], None],
    ) -> None:
        self._topology, self._token = topology, token
        self._declared, self._consuming = declared, consuming
        self._delivered, self._heard = delivered, heard
        self._channel: Any = None
        self._acks: Acks | None = None
        self._is_declared = self._has_looked = self._closed = False
        self.own_queue = ""
        self._services, self._connection, self._guard, self._lost = services, connection, guard, lost
        self._channels = OwnChannels(connection)
        self.lease = Lease(services, self._channels, topology.lease, guard)
        self.requests = RequestQueue(
            services,
            self._channels,
            guard,
            topology,
            looked=self._looked,
            news=news,
            delivered=delivered,
        )

    @property
    def broker(self) -> str:
        """Product and version of the broker."""
        known = self._connection.server_properties or {}
        return " ".join(str(known.get(name, "")) for name in ("product", "version")).strip() or "AMQP"

    def open(self) -> None:
        """The connection is up: declare everything."""
        self._channels.channel(on_open_callback=self._guard(self._own_channel_opened))
        self.requests.open()

    def consume(self) -> None:
        """Begin to take messages."""
        if self._topology.own_queue is None:
            self._consuming()
            return
        self._channel.basic_consume(
            self.own_queue, self._guard(self._on_message), callback=self._guard(lambda _frame: self._consuming())
        )

    def stop_timers(self) -> None:
        self.lease.end()
        self.requests.stop()
        if self._acks is not None:
            self._acks.stop()

    def close(self) -> None:
        """Release what would otherwise live as long as the connection, which stays open."""
        self.lease.close()
        self._closed = True
        if self.own_queue:
            self._give_back(self.own_queue)
        self._channels.close()

    def _give_back(self, queue: str) -> None:
        # on a new channel: the one that declared it may have failed
        self._connection.channel(on_open_callback=partial(_delete_queue, queue))

    # --- setting up -----------------------------------------------------------------------------------

    def _own_channel_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._guard(lambda _channel, reason: self._lost(reason)))
        self._channel = channel
        self._acks = Acks(self._services, channel, limits.PREFETCH // 2)
        channel.add_on_cancel_callback(self._guard(self._cancelled))
        # Without a callback pika asks for no reply: a refusal closes the channel, success needs no round trip.
        for exchange in self._topology.exchanges:
            channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable)
        own = self._topology.own_queue
        if own is None:
            # the broker answers in order, so this reply means that the exchanges exist
            channel.basic_qos(prefetch_count=limits.PREFETCH, callback=self._guard(self._exchanges_declared))
        else:
            arguments = dict(own.arguments)
            channel.queue_declare("", exclusive=True, arguments=arguments, callback=self._own_granted)

    def _exchanges_declared(self, _frame: Any) -> None:
        self._is_declared = True
        self._declared_if_all()

    def _own_granted(self, frame: Any) -> None:
        if self._closed:
            self._give_back(frame.method.queue)
        else:
            self._guard(self._own_declared)(frame.method.queue)

    def _own_declared(self, queue: str) -> None:
        self.own_queue = queue
        for exchange, key in (*self._bindings(), *self._canary_binding()):
            self._channel.queue_bind(self.own_queue, exchange, key)
        self._channel.basic_qos(prefetch_count=limits.PREFETCH)
        self._is_declared = True
        self._declared_if_all()

    def _bindings(self) -> Iterable[Binding]:
        return self._topology.own_queue.bindings if self._topology.own_queue else ()

    def _canary_binding(self) -> Iterable[Binding]:
        exchange = self._topology.canary_exchange
        return [Binding(exchange, canary_key(self._token))] if exchange else []

    def _looked(self) -> None:
        self._has_looked = True
        self._declared_if_all()

    def _declared_if_all(self) -> None:
        if self._is_declared and self._has_looked:
            self._declared()

    def _cancelled(self, _frame: Any) -> None:
        self._lost(
            TopologyLost(
                "the broker has cancelled this link's consumer; its queue may be deleted, and is declared again"
            )
        )

    # --- messages -------------------------------------------------------------------------------------

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if method.exchange and method.exchange == self._topology.canary_exchange:
            self._heard(method.routing_key == canary_key(self._token))
        # Drop the link's own broadcasts and canaries.
        if not method.exchange or properties.app_id != self._token:
            self._delivered(delivery_of(method, properties, body))
        if self._acks is not None:
            self._acks.taken(method.delivery_tag)


def _delete_queue(name: str, channel: Any) -> None:
    channel.queue_delete(name)
    channel.close()
