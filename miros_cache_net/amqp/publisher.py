"""What one link publishes, with asynchronous publisher confirms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import pika
from pika import spec
from pika.exceptions import ChannelClosedByBroker

from miros_cache_net.amqp.own_channels import OwnChannels
from miros_cache_net.amqp.refusals import Refusal
from miros_cache_net.errors import MessageRefused, Unroutable

#: What pika's ``basic_publish`` takes.
_Message = tuple[str, str, bytes, pika.BasicProperties, bool]
Guard = Callable[[Callable[..., None]], Callable[..., None]]
#: Gives the error for a message to that exchange which a bound queue has rejected.
Rejected = Callable[[str], MessageRefused]


class Settled(Protocol):
    """Called once per message: whether the broker confirmed it, and the reason if it refuses this very message."""

    def __call__(self, taken: bool, refused: MessageRefused | None = None, /) -> None: ...


class Publisher:
    """Two channels in confirm mode; requests have their own, because a refused request closes its channel.

    Any other refused message closes the channel too: only that message is given up, the rest goes over a new channel.

    guard             wraps our callbacks and contains their exceptions
    lost              called with the cause when the publisher has failed
    ready             called once it can publish
    returned          called when a `mandatory` message without an id found no queue
    request_returned  called when the request queue does not exist
    requests_refused  called with the broker's refusal of a request; the next request uses a new channel
    refusal           extracts the refusal of a message from a channel's close reason; None if there is none
    rejected          makes the error for a message that a queue rejects
    """

    def __init__(
        self,
        connection: Any,
        guard: Guard,
        lost: Callable[[BaseException], None],
        *,
        ready: Callable[[], None],
        returned: Callable[[], None],
        request_returned: Callable[[], None],
        requests_refused: Callable[[BaseException], None],
        refusal: Callable[[BaseException], Refusal | None],
        rejected: Rejected,
    ) -> None:
        self._channels, self._guard, self.lost = OwnChannels(connection), guard, lost
        self._ready, self._returned = ready, returned
        self._request_returned, self._requests_refused = request_returned, requests_refused
        self._refusal, self._rejected = refusal, rejected
        self._is_ready = False
        self._too_long: Refusal | None = None
        self._again: list[tuple[_Message, Settled]] | None = None  # set while a closed channel is being replaced
        self._channel: _ConfirmingChannel | None = None
        self._requests: _ConfirmingChannel | None = None

    def open(self) -> None:
        """The connection is up: open the channels."""
        self._open_channel()
        self._open_requests()

    def send(
        self,
        exchange: str,
        key: str,
        body: bytes,
        properties: pika.BasicProperties,
        settled: Settled,
        mandatory: bool = False,
    ) -> None:
        """Publish; `settled` is called with True on the broker's confirm, with False when the connection is lost.

        If the broker refuses the message while the link stays up, with False and the error.
        """
        message = (exchange, key, body, properties, mandatory)
        if self._too_long is not None and self._too_long.concerns(exchange, key, body):
            settled(False, self._too_long.error)
        elif self._again is not None:
            self._again.append((message, settled))
        elif self._channel is None:
            settled(False)
        else:
            self._channel.send(message, settled)

    def ask(self, queue: str, body: bytes, properties: pika.BasicProperties, settled: Settled) -> None:
        """Publish to the request queue; `settled` as for `send`."""
        if self._requests is None:
            settled(False)
        else:
            self._requests.send(("", queue, body, properties, True), settled)

    def fail_unconfirmed(self) -> None:
        """Settle all unconfirmed messages as lost."""
        for channel in (self._channel, self._requests):
            if channel is not None:
                channel.fail_unconfirmed()
        again, self._again = self._again, None
        for _message, settled in again or ():
            settled(False)

    def close(self) -> None:
        """Close the channels; the connection stays open."""
        self._channels.close()

    def _open_channel(self) -> None:
        self._channels.channel(on_open_callback=self._guard(self._channel_opened))

    def _channel_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._guard(self._channel_closed))
        channel.add_on_return_callback(self._guard(self._came_back))
        self._channel = _ConfirmingChannel(channel, self._guard, self._rejected)
        again, self._again = self._again, None
        for message, settled in again or ():
            self._channel.send(message, settled)
        self._ready_if_all()

    def _came_back(self, _channel: Any, _method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        if properties.message_id and self._channel is not None:
            self._channel.came_back(properties.message_id)
        else:
            self._returned()

    def _channel_closed(self, _channel: Any, reason: BaseException) -> None:
        refusal = self._refusal(reason)
        if refusal is None or self._channel is None:
            self.lost(reason)
            return
        unconfirmed = self._channel.give_up()
        refused = [settled for message, settled in unconfirmed if refusal.concerns(*message[:3])]
        if not refused:  # resending would only loop
            self._again = unconfirmed
            self.lost(reason)
            return
        self._channel = None
        self._again = [one for one in unconfirmed if not refusal.concerns(*one[0][:3])]
        if refusal.most_bytes is not None:
            self._too_long = refusal
        self._open_channel()
        for settled in refused:
            settled(False, refusal.error)

    def _open_requests(self) -> None:
        self._channels.channel(on_open_callback=self._guard(self._requests_opened))

    def _requests_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._guard(self._requests_closed))
        channel.add_on_return_callback(self._guard(lambda *_: self._request_returned()))
        self._requests = _ConfirmingChannel(channel, self._guard, self._rejected)
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


class _Sent(NamedTuple):
    message: _Message
    settled: Settled
    is_second: bool


class _ConfirmingChannel:
    """Settles each message once.

    A message that the broker rejects (``basic.nack``) is sent once more, because a queue that has just gone rejects
    too; the second rejection counts as a refusal.
    """

    def __init__(self, channel: Any, guard: Guard, rejected: Rejected) -> None:
        self._channel, self._rejected = channel, rejected
        self._last_tag = 0
        self._returned: set[str] = set()
        self._unconfirmed: dict[int, _Sent] = {}  # in the order of publishing
        # without a callback pika asks for no reply: a refusal would close the channel
        channel.confirm_delivery(guard(self._confirmed))

    def send(self, message: _Message, settled: Settled, *, is_second: bool = False) -> None:
        self._last_tag += 1
        self._unconfirmed[self._last_tag] = _Sent(message, settled, is_second)
        # a closing channel's close callback settles this message too
        if self._channel.is_open:
            self._channel.basic_publish(*message)

    def came_back(self, message_id: str) -> None:
        """No queue was bound for that message; the broker confirms it next all the same."""
        self._returned.add(message_id)

    def give_up(self) -> list[tuple[_Message, Settled]]:
        """Remove and return all unconfirmed messages; the caller settles them."""
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        return [(sent.message, sent.settled) for sent in unconfirmed.values()]

    def fail_unconfirmed(self) -> None:
        for _message, settled in self.give_up():
            settled(False)

    def _confirmed(self, frame: Any) -> None:
        taken = isinstance(frame.method, spec.Basic.Ack)
        last: int = frame.method.delivery_tag
        tags = [last]
        if frame.method.multiple:
            tags = [tag for tag in self._unconfirmed if tag <= last or last == 0]
        for sent in [self._unconfirmed.pop(tag) for tag in tags if tag in self._unconfirmed]:
            message_id = sent.message[3].message_id
            if message_id in self._returned:
                self._returned.discard(message_id)
                sent.settled(False, Unroutable(f"no queue at exchange {sent.message[0]!r} takes {sent.message[1]!r}"))
            elif taken:
                sent.settled(True)
            elif sent.is_second:
                sent.settled(False, self._rejected(sent.message[0]))
            else:
                self.send(sent.message, sent.settled, is_second=True)
