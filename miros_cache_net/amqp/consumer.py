"""The consuming half of a session: declares everything, consumes its own queue and, if asked, requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.acks import Acks
from miros_cache_net.amqp.half import Half
from miros_cache_net.amqp.lease import Lease
from miros_cache_net.amqp.link import Delivery, Place
from miros_cache_net.errors import TopologyLost


class Consumer(Half):
    """A connection and two channels, since requests have a prefetch of their own.

    token      this link's random mark: its own broadcasts come back to it and are dropped, its canaries are known
    declared   called once everything is declared; `consume` is to follow
    consuming  called once the broker delivers, before anything is delivered
    delivered  called with each message that is for the listener
    heard      called with each message that came through the exchange
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
    ) -> None:
        self._place, self._token = place, token
        self._declared, self._consuming = declared, consuming
        self._delivered, self._heard = delivered, heard
        self._request_queue = topology.request_queue_name(place)
        self._channel: Any = None
        self._acks: Acks | None = None
        self._requests: Any = None
        self._request_acks: Acks | None = None
        self._requests_tag = ""
        self._serve_count = 0
        self.own_queue = ""
        self.request_servers: int | None = None
        super().__init__(*args)
        self.lease = Lease(self.connection, topology.lease_queue_name(place), self.guard)

    def consume(self) -> None:
        """Begin to take messages."""
        self._channel.basic_consume(
            self.own_queue, self.guard(self._on_message), callback=self.guard(lambda _frame: self._consuming())
        )

    def serve_requests(self, serve: bool) -> None:
        """Take requests, or stop to; once it consumes."""
        if self.over or serve == bool(self._requests_tag):
            return
        if serve:
            self._serve_count += 1
            self._requests_tag = f"requests-{self._serve_count}"
            # Unused, the queue may have expired since it was declared.
            self._declare_requests(lambda _frame: None)
            self._requests.basic_consume(
                self._request_queue, self.guard(self._on_request), consumer_tag=self._requests_tag
            )
        else:
            self._requests.basic_cancel(self._requests_tag)
            self._requests_tag = ""

    def stop_timers(self) -> None:
        self.lease.end()
        for acks in (self._acks, self._request_acks):
            if acks is not None:
                acks.stop()

    # --- setting up -----------------------------------------------------------------------------------

    def _opened(self, _connection: Any) -> None:
        self.open_channel(self._own_channel_opened)
        self.open_channel(self._request_channel_opened)

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

    def _request_channel_opened(self, channel: Any) -> None:
        self._requests = channel
        self._request_acks = Acks(self._services, channel, 1)
        channel.add_on_cancel_callback(self.guard(self._cancelled))
        self._declare_requests(self._requests_declared)
        channel.basic_qos(prefetch_count=limits.REQUEST_PREFETCH)

    def _declare_requests(self, declared: Callable[[Any], None]) -> None:
        self._requests.queue_declare(
            self._request_queue,
            durable=True,
            arguments=topology.request_queue_arguments(),
            callback=self.guard(declared),
        )

    def _requests_declared(self, frame: Any) -> None:
        self.request_servers = frame.method.consumer_count
        self._declared_if_all()

    def _declared_if_all(self) -> None:
        if self.own_queue and self.request_servers is not None:
            self._declared()

    def _cancelled(self, _frame: Any) -> None:
        self.lost(TopologyLost("somebody deleted a queue of this link at the broker: it is declared again"))

    # --- messages -------------------------------------------------------------------------------------

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if method.exchange == self._place.exchange:
            self._heard()
        # An own broadcast that came back, or a canary.
        if method.exchange != self._place.exchange or properties.app_id != self._token:
            self._delivered(_delivery(method, properties, body))
        if self._acks is not None:
            self._acks.taken(method.delivery_tag)

    def _on_request(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._delivered(_delivery(method, properties, body, from_requests=True))
        if self._request_acks is not None:
            self._request_acks.taken(method.delivery_tag)


def _delivery(method: Any, properties: Any, body: bytes, *, from_requests: bool = False) -> Delivery:
    """Only what has the expected type and shape of all that a stranger may have set."""
    reply_to, headers = properties.reply_to, properties.headers
    key_id = headers.get("key-id") if isinstance(headers, dict) else None
    return Delivery(
        body=body,
        routing_key=method.routing_key if isinstance(method.routing_key, str) else "",
        reply_to=reply_to if isinstance(reply_to, str) and topology.is_server_named(reply_to) else "",
        key_id=key_id if isinstance(key_id, str) else "",
        from_requests=from_requests,
    )
