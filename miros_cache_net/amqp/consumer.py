"""The consuming half of a session: declares everything, consumes its own queue and, if asked, requests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pika

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.acks import Acks
from miros_cache_net.amqp.first_look import Enquiry, FirstLook
from miros_cache_net.amqp.half import Half
from miros_cache_net.amqp.lease import Lease
from miros_cache_net.amqp.link import Delivery, Place
from miros_cache_net.errors import TopologyLost

#: Within this a broker and a peer of the same network have answered.
_NEARBY_S: Final = 0.01


class Consumer(Half):
    """A connection and two channels, since requests have a prefetch of their own.

    pika sends the next thing on a channel only when what asks for an answer has been answered, so what need not wait
    for each other is shared out to both channels, and what needs no answer asks for none.

    token      this link's random mark: its own broadcasts come back to it and are dropped, its canaries are known
    look       gives the first question, if there is one; where there is none yet, once more when a channel is open
    consuming  called once the broker delivers, before anything but the answer to that is delivered
    watched    called once its canaries find the way back
    blocked    called when an alarm makes the broker read nothing more, because this connection has asked
    direct     whether channels that wait for an answer are told as where to answer
    delivered  called with each message that is for the listener
    heard      called with each message that came through the exchange
    """

    def __init__(
        self,
        *args: Any,
        place: Place,
        token: str,
        look: Callable[[], Enquiry | None],
        consuming: Callable[[], None],
        watched: Callable[[], None],
        blocked: Callable[[], None],
        direct: Callable[[], bool],
        delivered: Callable[[Delivery], None],
        heard: Callable[[], None],
    ) -> None:
        self._place, self._token = place, token
        self._look, self._consuming, self._watched, self._blocked = look, consuming, watched, blocked
        self._first_look: FirstLook | None = None
        self._to_set_up: list[Callable[[], None]] = []
        self._channels_timer: Any = None
        self._has_channels = self._is_setting_up = False
        self._direct, self._delivered, self._heard = direct, delivered, heard
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
        if self._channels_timer is not None:
            self._channels_timer.cancel()
        for acks in (self._acks, self._request_acks):
            if acks is not None:
                acks.stop()

    # --- setting up -----------------------------------------------------------------------------------

    def _opened(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self.guard(lambda *_: self._blocked()))
        if self._looks(connection):
            # nearby an answer is here sooner, and would be kept waiting by this; far away two journeys are saved
            self._channels_timer = self._services.call_later(_NEARBY_S, self.guard(self._open_channels))
        else:
            self._open_channels()

    def _looks(self, connection: Any) -> bool:
        enquiry = self._look()
        if enquiry is None:
            return False
        self._first_look = FirstLook(self._services, self.guard, enquiry, self._on_first_answer, self._first_look_over)
        self._first_look.start(connection)
        return True

    def _open_channels(self) -> None:
        if not self._has_channels:
            self._has_channels = True
            self.open_channel(partial(self._set_up, self._request_channel_opened))
            self.open_channel(partial(self._set_up, self._own_channel_opened))

    def _set_up(self, opened: Callable[[Any], None], channel: Any) -> None:
        """With that channel, once the first look is over.  A host whose file was being made till now may look now."""
        if self._first_look is None and not self._is_setting_up:
            self._looks(channel.connection)
        if self._first_look is None or self._first_look.is_over:
            self._is_setting_up = True
            opened(channel)
        else:
            self._to_set_up.append(partial(opened, channel))

    def _first_look_over(self) -> None:
        self._open_channels()
        waiting, self._to_set_up = self._to_set_up, []
        for set_up in waiting:
            set_up()

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
            self._delivered(_delivery(method, properties, body))
        if self._acks is not None:
            self._acks.taken(method.delivery_tag)

    def _on_first_answer(self, method: Any, properties: Any, body: bytes) -> None:
        self._delivered(_delivery(method, properties, body))

    def _on_request(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._delivered(_delivery(method, properties, body, from_requests=True, direct=self._direct()))
        if self._request_acks is not None:
            self._request_acks.taken(method.delivery_tag)


def _delivery(
    method: Any, properties: Any, body: bytes, *, from_requests: bool = False, direct: bool = False
) -> Delivery:
    """Only what has the expected type and shape of all that a stranger may have set.

    direct  a channel may be where to answer: of requests only, which one host gets and not all of them, because a
            forged one costs whoever answers it the connection
    """
    reply_to, headers = properties.reply_to, properties.headers
    key_id = headers.get("key-id") if isinstance(headers, dict) else None
    return Delivery(
        body=body,
        routing_key=method.routing_key if isinstance(method.routing_key, str) else "",
        reply_to=reply_to if isinstance(reply_to, str) and _may_be_answered(reply_to, direct) else "",
        key_id=key_id if isinstance(key_id, str) else "",
        from_requests=from_requests,
    )


def _may_be_answered(reply_to: str, direct: bool) -> bool:
    return topology.is_server_named(reply_to) or (direct and topology.is_direct_reply(reply_to))
