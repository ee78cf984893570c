"""Detects a deaf link: deleting an exchange under a consumer raises no error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miros_cache_net.amqp.pika_loop import LinkServices


class Canary:
    """Sends the link a message to itself now and then; runs on the link's thread.

    send    publishes the canary
    missed  called when nothing, canary or other, came through the exchange in time
    """

    def __init__(
        self,
        services: LinkServices,
        interval_s: float,
        timeout_s: float,
        send: Callable[[], None],
        missed: Callable[[], None],
    ) -> None:
        self._services = services
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._send = send
        self._missed = missed
        self._flying = False
        self._blocked = False
        self._timer: Any = None

    def start(self) -> None:
        if not self._blocked:
            self._set_timer(self._interval_s, self._fly)

    def heard(self) -> None:
        """A message came through the exchange: exchange and bindings are there."""
        if self._flying:
            self._flying = False
            # The canary that triggered the broker's alarm notice still arrives.
            if not self._blocked:
                self._set_timer(self._interval_s, self._fly)

    def blocked(self, blocked: bool) -> None:
        """While the broker blocks publications, no canary counts as missed."""
        self._blocked = blocked
        if blocked:
            self.stop()
        elif self._flying:
            self._set_timer(self._timeout_s, self._missed)
        else:
            self.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fly(self) -> None:
        self._flying = True
        self._set_timer(self._timeout_s, self._missed)
        self._send()

    def _set_timer(self, delay_s: float, then: Callable[[], None]) -> None:
        self.stop()
        self._timer = self._services.call_later(delay_s, then)
