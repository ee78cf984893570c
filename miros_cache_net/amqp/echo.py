"""Detects a route that the broker has lost, although it lists the binding.

After a partition, or a restart, RabbitMQ 3 may forget what a topic exchange routes to a queue: its table of topics
differs from its table of bindings (rabbitmq-server issues 2079, 5075 and 13029).  Nothing tells the client, binding the
same queue again changes nothing, and the canary has a binding of its own, which may be in order.  A new queue gets a
new route.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.amqp.publisher import Settled
from miros_cache_net.errors import MessageRefused


class Echo:
    """Expects the link's own broadcasts, or any other that comes by the same bindings; runs on the link's thread.

    missed  called when nothing has come within `timeout_s` after the broker confirmed a broadcast
    """

    def __init__(self, services: LinkServices, timeout_s: float, missed: Callable[[], None]) -> None:
        self._services, self._timeout_s, self._missed = services, timeout_s, missed
        self._heard = 0
        self._timer: Any = None

    def expected(self, settled: Settled) -> Settled:
        """`settled` of a broadcast that the link's own bindings match; what the broker refuses never comes back."""
        heard_before = self._heard

        def confirmed(taken: bool, refused: MessageRefused | None = None) -> None:
            # it may arrive before its confirm, which takes the other connection
            if taken and self._heard == heard_before and self._timer is None:
                self._timer = self._services.call_later(self._timeout_s, self._missed)
            settled(taken, refused)

        return confirmed

    def heard(self) -> None:
        """A broadcast came by the link's bindings."""
        self._heard += 1
        self.stop()

    def stop(self) -> None:
        """Expect nothing until the next broadcast is confirmed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
