"""The publishing half of a session: asynchronous publisher confirms, and the broker's alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
from pika import spec
from pika.exceptions import ChannelClosedByBroker

from miros_cache_net.amqp.half import Half

Settled = Callable[[bool], None]


class Publisher(Half):
    """A connection and two channels in confirm mode: requests have their own, since a refused one closes it.

    ready             called once it can publish
    blocked           called with True when an alarm makes the broker take nothing, with False when it takes again
    returned          called when a message published with `mandatory` found no queue
    request_returned  called when the request queue is not there
    requests_refused  called with the broker's refusal of a request; the next one is tried on a new channel
    """

    def __init__(
        self,
        *args: Any,
        ready: Callable[[], None],
        blocked: Callable[[bool], None],
        returned: Callable[[], None],
        request_returned: Callable[[], None],
        requests_refused: Callable[[BaseException], None],
    ) -> None:
        self._ready, self._blocked, self._returned = ready, blocked, returned
        self._request_returned, self._requests_refused = request_returned, requests_refused
        self.is_blocked = self._is_ready = False
        self._channel: _ConfirmingChannel | None = None
        self._requests: _ConfirmingChannel | None = None
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
        else:
            self._channel.send((exchange, key, body, properties, mandatory), settled)

    def ask(self, queue: str, body: bytes, properties: pika.BasicProperties, settled: Settled) -> None:
        """Publish to the request queue, likewise."""
        if self.over or self._requests is None:
            settled(False)
        else:
            self._requests.send(("", queue, body, properties, True), settled)

    def fail_unconfirmed(self) -> None:
        """Tell all that wait for a confirm that it will not come."""
        for channel in (self._channel, self._requests):
            if channel is not None:
                channel.fail_unconfirmed()

    def _opened(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self.guard(lambda *_: self._set_blocked(True)))
        connection.add_on_connection_unblocked_callback(self.guard(lambda *_: self._set_blocked(False)))
        self.open_channel(self._channel_opened)
        self._open_requests()

    def _channel_opened(self, channel: Any) -> None:
        channel.add_on_return_callback(self.guard(lambda *_: self._returned()))
        self._channel = _ConfirmingChannel(channel, self.guard)
        self._ready_if_all()

    def _open_requests(self) -> None:
        self.connection.channel(on_open_callback=self.guard(self._requests_opened))

    def _requests_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self.guard(self._requests_closed))
        channel.add_on_return_callback(self.guard(lambda *_: self._request_returned()))
        self._requests = _ConfirmingChannel(channel, self.guard)
        self._ready_if_all()

    def _requests_closed(self, _channel: Any, reason: BaseException) -> None:
        closed, self._requests = self._requests, None
        if closed is not None:
            closed.fail_unconfirmed()
        if isinstance(reason, ChannelClosedByBroker):
            self._open_requests()
            self._requests_refused(reason)

    def _ready_if_all(self) -> None:
        if not self._is_ready and self._channel is not None and self._requests is not None:
            self._is_ready = True
            self._ready()

    def _set_blocked(self, blocked: bool) -> None:
        self.is_blocked = blocked
        self._blocked(blocked)


class _ConfirmingChannel:
    """Settles each message once."""

    def __init__(self, channel: Any, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        self._channel = channel
        self._last_tag = 0
        self._unconfirmed: dict[int, Settled] = {}  # in the order of publishing
        # without a callback pika asks for no reply: a refusal would close the channel
        channel.confirm_delivery(guard(self._confirmed))

    def send(self, message: tuple[Any, ...], settled: Settled) -> None:
        """`message`: what pika's ``basic_publish`` takes."""
        self._channel.basic_publish(*message)
        self._last_tag += 1
        self._unconfirmed[self._last_tag] = settled

    def fail_unconfirmed(self) -> None:
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for settled in unconfirmed.values():
            settled(False)

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
