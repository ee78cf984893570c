"""The consuming half of a session: its own queue, and on the same connection the request queue and the lease."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.acks import Acks
from miros_cache_net.amqp.deliveries import delivery_of
from miros_cache_net.amqp.half import Half
from miros_cache_net.amqp.lease import Lease
from miros_cache_net.amqp.link import Delivery, Place
from miros_cache_net.amqp.request_queue import RequestQueue
from miros_cache_net.errors import TopologyLost


class Consumer(Half):
    """A connection, and channels for its own queue, the request queue and the lease.

    token      this link's random mark: its own broadcasts come back to it and are dropped, its canaries are known
    declared   called once its own queue is there and the request queue was looked at; `consume` is to follow
    consuming  called once the broker delivers, before anything is delivered
    delivered  called with each message that is for the listener
    heard      called with each message that came through the exchange
    news       what `RequestQueue` tells
    """

    def __init__(
        self,
        *args: Any,
        place: Place,
        token: str,
        declared: Callable[[], None],
        consuming: Callable[[], None],
        delivered: Callable[[Delivery], None],
        heard: Callable[[], None],
        news: Callable[[BaseException | None], None],
    ) -> None:
        self._place, self._token = place, token
        self._declared, self._consuming = declared, consuming
        self._delivered, self._heard = delivered, heard
        self._channel: Any = None
        self._acks: Acks | None = None
        self._has_looked = False
        self.own_queue = ""
        super().__init__(*args)
        self.lease = Lease(self._services, self.connection, topology.lease_queue_name(place), self.guard)
        self.requests = RequestQueue(
            self._services, self.connection, self.guard, place, looked=self._looked, news=news, delivered=delivered
        )

    def consume(self) -> None:
        """Begin to take messages."""
        self._channel.basic_consume(
            self.own_queue, self.guard(self._on_message), callback=self.guard(lambda _frame: self._consuming())
        )

    def stop_timers(self) -> None:
        self.lease.end()
        self.requests.stop()
        if self._acks is not None:
            self._acks.stop()

    # --- setting up -----------------------------------------------------------------------------------

    def _opened(self, _connection: Any) -> None:
        self.open_channel(self._own_channel_opened)
        self.requests.open()

    def _own_channel_opened(self, channel: Any) -> None:
        self._channel = channel
        self._acks = Acks(self._services, channel, limits.PREFETCH // 2)
        channel.add_on_cancel_callback(self.guard(self._cancelled))
        # Without a callback pika asks for no reply: a refusal closes the channel, the rest needs no round trip.
        channel.exchange_declare(self._place.exchange, topology.EXCHANGE_TYPE, durable=True)
        channel.queue_declare(
            "", exclusive=True, arguments=topology.own_queue_arguments(), callback=self.guard(self._own_declared)
        )

    def _own_declared(self, frame: Any) -> None:
        self.own_queue = frame.method.queue
        for key in (topology.binding_key(self._place), topology.canary_key(self._token)):
            self._channel.queue_bind(self.own_queue, self._place.exchange, key)
        self._channel.basic_qos(prefetch_count=limits.PREFETCH)
        self._declared_if_all()

    def _looked(self) -> None:
        self._has_looked = True
        self._declared_if_all()

    def _declared_if_all(self) -> None:
        if self.own_queue and self._has_looked:
            self._declared()

    def _cancelled(self, _frame: Any) -> None:
        self.lost(TopologyLost("the broker has ended this link's own queue, maybe deleted there: it is declared again"))

    # --- messages -------------------------------------------------------------------------------------

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if method.exchange == self._place.exchange:
            self._heard()
        # An own broadcast that came back, or a canary.
        if method.exchange != self._place.exchange or properties.app_id != self._token:
            self._delivered(delivery_of(method, properties, body))
        if self._acks is not None:
            self._acks.taken(method.delivery_tag)
