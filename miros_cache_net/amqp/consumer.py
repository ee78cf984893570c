"""The consuming half of a session: declares everything, consumes its own queue and, if asked, requests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pika

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.acks import Acks
from miros_cache_net.amqp.first_look import FirstLook
from miros_cache_net.amqp.half import Half
from miros_cache_net.amqp.lease import Lease
from miros_cache_net.amqp.link import Delivery, Place
from miros_cache_net.errors import TopologyLost

#: Queue, body and properties.
Question = tuple[str, bytes, pika.BasicProperties]


class Consumer(Half):
    """A connection and two channels, since requests have a prefetch of their own.

    pika sends the next thing on a channel only when what asks for an answer has been answered, so what need not wait
    for each other is shared out to both channels, and what needs no answer asks for none.

    token      this link's random mark: its own broadcasts come back to it and are dropped, its canaries are known
    look       gives the first question, if there is one
    consuming  called once the broker delivers, before anything but the answer to that is delivered
    watched    called once its canaries find the way back
    blocked    called when an alarm makes the broker read nothing more, because this connection has asked
    delivered  called with each message that is for the listener
    heard      called with each message that came through the exchange
    """

    def __init__(
        self,
        *args: Any,
        place: Place,
        token: str,
        look: Callable[[], Question | None],
        consuming: Callable[[], None],
        watched: Callable[[], None],
        blocked: Callable[[], None],
        delivered: Callable[[Delivery], None],
        heard: Callable[[], None],
    ) -> None:
        self._place, self._token = place, token
        self._look, self._consuming, self._watched, self._blocked = look, consuming, watched, blocked
        self._first_look: FirstLook | None = None
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

    def ask(self, queue: str, body: bytes, properties: pika.BasicProperties) -> None:
        """Publish to a queue, unconfirmed: a question whose answer is its confirm.

        While the alarm lasts that makes the broker call `blocked` this connection is of no use.
        """
        self._channel.basic_publish("", queue, body, properties)

    def serve_requests(self, serve: bool) -> None:
        """Take requests, or stop to; once it consumes."""
        if self.over or serve == bool(self._requests_tag):
            return
        if serve:
            self._serve_count += 1
            self._requests_tag = f"requests-{self._serve_count}"
            # Unused, the queue may have expired since it was declared.
            self._declare_requests(self._requests, lambda _frame: None)
            self._requests.basic_consume(
                self._request_queue, self.guard(self._on_request), consumer_tag=self._requests_tag
            )
        else:
            self._requests.basic_cancel(self._requests_tag)
            self._requests_tag = ""

    def stop_timers(self) -> None:
        self.lease.end()
        if self._first_look is not None:
            self._first_look.stop()
        for acks in (self._acks, self._request_acks):
            if acks is not None:
                acks.stop()

    # --- setting up -----------------------------------------------------------------------------------

    def _opened(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self.guard(lambda *_: self._blocked()))
        question = self._look()
        if question is None:
            self.open_channel(self._request_channel_opened)
            self.open_channel(self._own_channel_opened)
        else:
            self.open_channel(partial(self._ask_first, question))

    def _ask_first(self, question: Question, channel: Any) -> None:
        def over() -> None:
            self._request_channel_opened(channel)
            self.open_channel(self._own_channel_opened)

        self._first_look = FirstLook(self._services, channel, self.guard, self._on_first_answer, over)
        self._first_look.ask(*question)

    def _request_channel_opened(self, channel: Any) -> None:
        self._requests = channel
        self._request_acks = Acks(self._services, channel, 1)
        channel.add_on_cancel_callback(self.guard(self._cancelled))
        # What takes the broker longest; the other channel does the rest meanwhile.
        channel.queue_declare(
            "", exclusive=True, arguments=topology.own_queue_arguments(), callback=self.guard(self._own_declared)
        )
        channel.basic_qos(prefetch_count=limits.REQUEST_PREFETCH)

    def _own_channel_opened(self, channel: Any) -> None:
        self._channel = channel
        self._acks = Acks(self._services, channel, limits.PREFETCH // 2)
        channel.add_on_cancel_callback(self.guard(self._cancelled))
        channel.basic_qos(prefetch_count=limits.PREFETCH)
        # Without a callback pika asks for no reply: a refusal closes the channel, the rest needs no round trip.
        channel.exchange_declare(self._place.exchange, topology.EXCHANGE_TYPE, durable=True)
        self._declare_requests(channel, self._requests_declared)

    def _own_declared(self, frame: Any) -> None:
        self.own_queue = frame.method.queue
        self._consume_if_declared()

    def _declare_requests(self, channel: Any, declared: Callable[[Any], None]) -> None:
        channel.queue_declare(
            self._request_queue,
            durable=True,
            arguments=topology.request_queue_arguments(),
            callback=self.guard(declared),
        )

    def _requests_declared(self, frame: Any) -> None:
        self.request_servers = frame.method.consumer_count
        self._consume_if_declared()

    def _consume_if_declared(self) -> None:
        if not self.own_queue or self.request_servers is None:
            return
        exchange, canary = self._place.exchange, topology.canary_key(self._token)
        self._channel.queue_bind(self.own_queue, exchange, topology.binding_key(self._place))
        self._channel.basic_consume(
            self.own_queue, self.guard(self._on_message), callback=self.guard(lambda _frame: self._consuming())
        )
        self._channel.queue_bind(self.own_queue, exchange, canary, callback=self.guard(lambda _frame: self._watched()))

    def _cancelled(self, _frame: Any) -> None:
        self.lost(TopologyLost("somebody deleted a queue of this link at the broker: it is declared again"))

    # --- messages -------------------------------------------------------------------------------------

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if method.exchange == self._place.exchange:
            self._heard()
        # An own broadcast that came back, or a canary.
        if method.exchange != self._place.exchange or properties.app_id != self._token:
            self._delivered(_delivery(method, properties, body, from_requests=False))
        if self._acks is not None:
            self._acks.taken(method.delivery_tag)

    def _on_first_answer(self, method: Any, properties: Any, body: bytes) -> None:
        self._delivered(_delivery(method, properties, body, from_requests=False))

    def _on_request(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._delivered(_delivery(method, properties, body, from_requests=True))
        if self._request_acks is not None:
            self._request_acks.taken(method.delivery_tag)


def _delivery(method: Any, properties: Any, body: bytes, from_requests: bool) -> Delivery:
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
