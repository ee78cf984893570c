"""One question before the link has a queue of its own, so that a host that has nothing need not wait for one.

To declare, bind and consume an exclusive queue takes the broker longer than to carry a question and its answer, which
RabbitMQ can hand to the asking channel itself (direct reply-to).  What is broadcast meanwhile is missed, so it is no
more than a look: whoever wants to be in step asks again once the link stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pika

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.pika_loop import LinkServices

#: What whoever gets the answer is given to store it, before this thread is busy again.
_STORE_S: Final = 0.003


class FirstLook:
    """Asks on `channel` and calls `over` once: soon after the answer, or when none has come in time.

    answered  called with the answer's method, properties and body, as pika gives them
    guard     what callbacks given to pika go through (`Half.guard`)
    """

    def __init__(
        self,
        services: LinkServices,
        channel: Any,
        guard: Callable[[Callable[..., None]], Callable[..., None]],
        answered: Callable[..., None],
        over: Callable[[], None],
    ) -> None:
        self._services, self._channel, self._guard = services, channel, guard
        self._answered, self._over = answered, over
        self._timer: Any = None
        self._tag = ""

    def ask(self, queue: str, body: bytes, properties: pika.BasicProperties) -> None:
        properties.reply_to = topology.DIRECT_REPLY_TO
        self._tag = self._channel.basic_consume(topology.DIRECT_REPLY_TO, self._guard(self._on_answer), auto_ack=True)
        self._channel.basic_publish("", queue, body, properties)
        self._set_timer(limits.FIRST_LOOK_S)

    def stop(self) -> None:
        """No timer is left."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_answer(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if self._tag:
            self._answered(method, properties, body)
            self._set_timer(_STORE_S)

    def _end(self) -> None:
        # what comes from here on has no queue that bounds it
        self._channel.basic_cancel(self._tag)
        self._tag = ""
        self._over()

    def _set_timer(self, delay_s: float) -> None:
        self.stop()
        self._timer = self._services.call_later(delay_s, self._guard(self._end))
