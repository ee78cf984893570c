"""The request queue that links share, as one session sees it.

The link works without it.  In a cluster it lives on one broker, its home: while that is down every declaration is
refused, and while it is frozen none is answered.  So the queue has its own channel, which a refusal closes without
harm to the others, and is retried now and then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from miros_cache_net import limits
from miros_cache_net.amqp.acks import Acks
from miros_cache_net.amqp.deliveries import delivery_of
from miros_cache_net.amqp.link import Delivery
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.amqp.topology import Topology

Guard = Callable[[Callable[..., None]], Callable[..., None]]


class RequestQueue:
    """On the consuming connection of a session; all of it runs on the link's thread.

    guard      wraps our callbacks and contains their exceptions
    looked     called once, when the queue is declared, refused, or the wait is over; see `servers` then
    news       called with the broker's refusal, and with None once the queue works
    delivered  called with each request
    """

    def __init__(
        self,
        services: LinkServices,
        connection: Any,
        guard: Guard,
        topology: Topology,
        *,
        looked: Callable[[], None],
        news: Callable[[BaseException | None], None],
        delivered: Callable[[Delivery], None],
    ) -> None:
        self._services, self._connection, self._guard = services, connection, guard
        self._queue, self._late_acks = topology.requests, topology.late_acks
        self._exchanges = topology.exchanges
        self._looked, self._news, self._delivered = looked, news, delivered
        self._has_looked = self._serve = False
        self._channel: Any = None
        self._acks: Acks | None = None
        self._timer: Any = None
        self._tag = ""
        self._tags_given = 0
        self.servers: int | None = None
        """Consumers at the last declaration; None: the queue is unavailable."""

    def open(self) -> None:
        """Declare the queue, if there is one, on a new channel; `looked` is called soon, even if the broker hangs."""
        if self._queue is None:
            self._look_over()
            return
        self._connection.channel(on_open_callback=self._guard(self._opened))
        if not self._has_looked:
            self._set_timer(limits.REQUEST_QUEUE_WAIT_S, self._look_over)

    def serve(self, serve: bool) -> None:
        """Start or stop consuming, now or when the queue becomes available."""
        self._serve = serve
        if self.servers is None or serve == bool(self._tag):
            return
        if serve:
            # an unused queue may have expired since it was declared
            self._declare()
        else:
            self._channel.basic_cancel(self._tag)
            self._tag = ""

    def missing(self) -> None:
        """A request was returned: the queue does not exist."""
        if self.servers is not None and not self._tag:
            self._lost()

    def stop(self) -> None:
        """Cancel all timers."""
        if self._timer is not None:
            self._timer.cancel()
        if self._acks is not None:
            self._acks.stop()

    def _opened(self, channel: Any) -> None:
        self._channel, self._acks = channel, Acks(self._services, channel, 1)
        channel.add_on_close_callback(self._guard(self._closed))
        channel.add_on_cancel_callback(self._guard(lambda _frame: self._lost()))
        channel.basic_qos(prefetch_count=limits.PREFETCH if self._late_acks else limits.REQUEST_PREFETCH)
        self._declare()

    def _declare(self) -> None:
        if self._queue is not None:
            name, arguments = self._queue.name, dict(self._queue.arguments)
            if self._queue.bindings:
                # the link declares them on another channel, perhaps later
                for each in self._exchanges:
                    self._channel.exchange_declare(each.name, each.type, durable=each.durable)
            self._channel.queue_declare(name, durable=True, arguments=arguments, callback=self._guard(self._declared))
            for exchange, key in self._queue.bindings:
                self._channel.queue_bind(name, exchange, key)

    def _declared(self, frame: Any) -> None:
        self.servers = frame.method.consumer_count
        if not self._serve:
            self._news(None)
        elif not self._tag:
            self._tags_given += 1
            self._tag = f"requests-{self._tags_given}"
            granted = self._guard(lambda _frame: self._news(None))
            self._channel.basic_consume(
                frame.method.queue, self._guard(self._on_request), consumer_tag=self._tag, callback=granted
            )
        self._look_over()

    def _on_request(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        tag = method.delivery_tag
        if self._late_acks:
            acknowledge = partial(self._guard(self._acknowledge), channel, tag)
            taken = partial(self._services.add_callback_threadsafe, acknowledge)
            self._delivered(delivery_of(method, properties, body, from_requests=True, taken=taken))
            return
        self._delivered(delivery_of(method, properties, body, from_requests=True))
        if channel is self._channel and self._acks is not None:
            self._acks.taken(tag)

    def _acknowledge(self, channel: Any, tag: int) -> None:
        # once the channel has closed, the broker delivers the message again
        if channel.is_open:
            channel.basic_ack(tag)

    def _lost(self) -> None:
        """The queue was deleted, expired, or its home is down; redeclaring it shows which."""
        self.servers, self._tag = None, ""
        self._declare()

    def _closed(self, _channel: Any, reason: BaseException) -> None:
        self.servers, self._tag = None, ""
        if self._acks is not None:
            self._acks.stop()
        if isinstance(reason, ChannelClosedByBroker):
            self._news(reason)
            self._look_over()
            retry_s = limits.REQUEST_QUEUE_RETRY_S
            self._set_timer(random.uniform(retry_s / 2, retry_s), self.open)

    def _look_over(self) -> None:
        if not self._has_looked:
            self._has_looked = True
            if self._timer is not None:
                self._timer.cancel()
            self._looked()

    def _set_timer(self, delay_s: float, then: Callable[[], None]) -> None:
        self._timer = self._services.call_later(delay_s, self._guard(then))
