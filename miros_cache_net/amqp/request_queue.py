"""The queue that all hosts of a place share for requests, as far as one session may have it.

It is a convenience and no condition of the link.  In a cluster it lives on one broker, its home: while that is down
every declaration is refused, while that is frozen none is answered.  So it has a channel of its own, which a refusal
closes and nothing else with it, and is tried again now and then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.acks import Acks
from miros_cache_net.amqp.deliveries import delivery_of
from miros_cache_net.amqp.link import Delivery, Place
from miros_cache_net.amqp.pika_loop import LinkServices

Guard = Callable[[Callable[..., None]], Callable[..., None]]


class RequestQueue:
    """On the consuming connection of a session; all of it runs on the link's thread.

    guard      contains what a callback of ours raises
    looked     called once: `servers` tells whether it can be had, as far as the broker has said by now
    news       called with the broker's refusal, and with None when all that is asked of the queue is granted
    delivered  called with each request
    """

    def __init__(
        self,
        services: LinkServices,
        connection: Any,
        guard: Guard,
        place: Place,
        *,
        looked: Callable[[], None],
        news: Callable[[BaseException | None], None],
        delivered: Callable[[Delivery], None],
    ) -> None:
        self._services, self._connection, self._guard = services, connection, guard
        self._name = topology.request_queue_name(place)
        self._looked, self._news, self._delivered = looked, news, delivered
        self._has_looked = self._serve = False
        self._channel: Any = None
        self._acks: Acks | None = None
        self._timer: Any = None
        self._tag = ""
        self._tags_given = 0
        self.servers: int | None = None
        """Consumers that it had when it was declared last; None: it cannot be had now."""

    def open(self) -> None:
        """Declare it, on a new channel; who waits for that is told soon, whatever the broker does."""
        self._connection.channel(on_open_callback=self._guard(self._opened))
        if not self._has_looked:
            self._set_timer(limits.REQUEST_QUEUE_WAIT_S, self._look_over)

    def serve(self, serve: bool) -> None:
        """Consume it, or stop to, now or when it can be had."""
        self._serve = serve
        if self.servers is None or serve == bool(self._tag):
            return
        if serve:
            # unused, it may have expired since it was declared
            self._declare()
        else:
            self._channel.basic_cancel(self._tag)
            self._tag = ""

    def missing(self) -> None:
        """What was published to it came back."""
        if self.servers is not None and not self._tag:
            self._lost()

    def stop(self) -> None:
        """No timer is left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._acks is not None:
            self._acks.stop()

    def _opened(self, channel: Any) -> None:
        self._channel, self._acks = channel, Acks(self._services, channel, 1)
        channel.add_on_close_callback(self._guard(self._closed))
        channel.add_on_cancel_callback(self._guard(lambda _frame: self._lost()))
        channel.basic_qos(prefetch_count=limits.REQUEST_PREFETCH)
        self._declare()

    def _declare(self) -> None:
        self._channel.queue_declare(
            self._name,
            durable=True,
            arguments=topology.request_queue_arguments(),
            callback=self._guard(self._declared),
        )

    def _declared(self, frame: Any) -> None:
        self.servers = frame.method.consumer_count
        if not self._serve:
            self._news(None)
        elif not self._tag:
            self._tags_given += 1
            self._tag = f"requests-{self._tags_given}"
            granted = self._guard(lambda _frame: self._news(None))
            self._channel.basic_consume(
                self._name, self._guard(self._on_request), consumer_tag=self._tag, callback=granted
            )
        self._look_over()

    def _on_request(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._delivered(delivery_of(method, properties, body, from_requests=True))
        if channel is self._channel and self._acks is not None:
            self._acks.taken(method.delivery_tag)

    def _lost(self) -> None:
        """Deleted, expired, or its home is gone: the broker says which when it is declared again."""
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
