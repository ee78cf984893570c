"""The publishing half of a session: asynchronous publisher confirms, and the broker's alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
from pika import spec

from miros_cache_net.amqp.half import Half

Settled = Callable[[bool], None]


class Publisher(Half):
    """A connection and a channel in confirm mode.

    ready     called once it can publish
    blocked   called with True when an alarm makes the broker take nothing, with False when it takes again
    returned  called when a message published with `mandatory` found no queue
    """

    ready: Callable[[], None]
    blocked: Callable[[bool], None]
    returned: Callable[[], None]

    def __init__(
        self, *args: Any, ready: Callable[[], None], blocked: Callable[[bool], None], returned: Callable[[], None]
    ) -> None:
        self.ready, self.blocked, self.returned = ready, blocked, returned
        self.is_blocked = False
        self._channel: Any = None
        self._last_tag = 0
        self._unconfirmed: dict[int, Settled] = {}  # in the order of publishing
        super().__init__(*args)

    def send(
        self,
        exchange: str,
        key: str,
        body: bytes,
        properties: pika.BasicProperties,
        settled: Settled,
        mandatory: bool = False,
    ) -> None:
        """Publish; `settled` is called with the broker's confirm, or with False when the connection is lost."""
        if self.over or self._channel is None:
            settled(False)
            return
        self._channel.basic_publish(exchange, key, body, properties, mandatory)
        self._last_tag += 1
        self._unconfirmed[self._last_tag] = settled

    def fail_unconfirmed(self) -> None:
        """Tell all that wait for a confirm that it will not come."""
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for settled in unconfirmed.values():
            settled(False)

    def _opened(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self.guard(lambda *_: self._set_blocked(True)))
        connection.add_on_connection_unblocked_callback(self.guard(lambda *_: self._set_blocked(False)))
        self.open_channel(self._channel_opened)

    def _channel_opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_return_callback(self.guard(lambda *_: self.returned()))
        # without a callback pika asks for no reply: a refusal would close the channel
        channel.confirm_delivery(self.guard(self._confirmed))
        self.ready()

    def _set_blocked(self, blocked: bool) -> None:
        self.is_blocked = blocked
        self.blocked(blocked)

    def _confirmed(self, frame: Any) -> None:
        taken = isinstance(frame.method, spec.Basic.Ack)
        last: int = frame.method.delivery_tag
        tags = [last]
        if frame.method.multiple:
            tags = [tag for tag in self._unconfirmed if tag <= last or last == 0]
        for tag in tags:
            settled = self._unconfirmed.pop(tag, None)
            if settled is not None:
                settled(taken)
