"""One question before the link has a queue of its own, so that a host that has nothing need not wait for one.

To declare, bind and consume an exclusive queue takes the broker longer than to carry a question and its answer, which
RabbitMQ can hand to the asking channel itself (direct reply-to).  What is broadcast meanwhile is missed, so it is no
more than a look: whoever wants to be in step asks again once the link stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pika

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.pika_loop import LinkServices

#: After the answer this thread stands aside for so long: it shares the interpreter with those who store and pass on
#: what has come, and setting up would keep them from it (a join takes a fifth longer without).
_STAND_ASIDE_S: Final = 0.003


class Enquiry(NamedTuple):
    """A question as it is published; its reply-to is `topology.DIRECT_REPLY_TO`."""

    queue: str
    body: bytes
    properties: pika.BasicProperties


class FirstLook:
    """Asks on a channel of its own and calls `over` once: soon after the first answer, or when none has come in time.

    The channel is gone afterwards; if the broker closes it before (it may refuse direct reply-to) the look is over.

    guard     what callbacks given to pika go through (`Half.guard`)
    answered  called with the first answer's method, properties and body, as pika gives them
    """

    def __init__(
        self,
        services: LinkServices,
        guard: Callable[[Callable[..., None]], Callable[..., None]],
        enquiry: Enquiry,
        answered: Callable[..., None],
        over: Callable[[], None],
    ) -> None:
        self._services, self._guard = services, guard
        self._enquiry, self._answered, self._over = enquiry, answered, over
        self._has_answer = False
        self._timer: Any = None
        self._channel: Any = None
        self.is_over = False

    def start(self, connection: Any) -> None:
        """Open the channel and ask."""
        connection.channel(on_open_callback=self._guard(self._ask))
        self._set_timer(limits.FIRST_LOOK_S)

    def stop(self) -> None:
        """No timer is left."""
        if self._timer is not None:
            self._timer.cancel()

    def _ask(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._guard(lambda *_: self._end()))
        if self.is_over:
            channel.close()
            return
        channel.basic_consume(topology.DIRECT_REPLY_TO, self._guard(self._on_answer), auto_ack=True)
        channel.basic_publish("", *self._enquiry)

    def _on_answer(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if not self._has_answer and not self.is_over:
            self._has_answer = True
            self._answered(method, properties, body)
            self._set_timer(_STAND_ASIDE_S)

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.stop()
            # what comes from here on has no queue that bounds it
            if self._channel is not None and self._channel.is_open:
                self._channel.close()
            self._over()

    def _set_timer(self, delay_s: float) -> None:
        self.stop()
        self._timer = self._services.call_later(delay_s, self._guard(self._end))
