"""One of a session's two connections: opening, reporting its loss once, closing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika

from miros_cache_net.amqp.containment import Containment, Guarded
from miros_cache_net.amqp.failures import NoGreeting
from miros_cache_net.amqp.pika_loop import LinkConnection, LinkServices, abort_connection, end_connection

#: How long a broker may take to answer a connection's close.
CLOSE_GRACE_S = 1.0
#: Slack after the TCP timeout, by when pika has reported a failed connect.
_AFTER_TCP_S = 0.1


class Half(Guarded):
    """All of it runs on the link's thread.

    `lost` is called once, with pika's error, when the connection fails; `gone` once, when its socket is closed.
    Callbacks given to pika go through `guard`, so that our exceptions never reach it.
    """

    def __init__(
        self,
        services: LinkServices,
        parameters: pika.ConnectionParameters,
        containment: Containment,
        lost: Callable[[BaseException], None],
        gone: Callable[[Half], None],
    ) -> None:
        super().__init__(containment)
        self._services = services
        self._tell_lost = lost
        self._tell_gone = gone
        self._abort_timer: Any = None
        self._waiting: list[Callable[[], None]] = []
        self.connection = LinkConnection(
            parameters,
            on_open_callback=self.guard(self._opened),
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            custom_ioloop=services,
        )
        late_s = parameters.stack_timeout / 2 + _AFTER_TCP_S
        self._greeting_timer = services.call_later(late_s, self.guard(self._check_greeted))

    def when_open(self, then: Callable[[], None]) -> None:
        """Call `then` once the connection is open; now if it already is."""
        if self.connection.is_open:
            then()
        else:
            self._waiting.append(then)

    def lost(self, cause: BaseException) -> None:
        """The connection has failed; reported once."""
        if not self._over:
            self._over = True
            self._tell_lost(cause)

    def end(self) -> None:
        """Close the connection; only `gone` is called after this."""
        self._over = True
        if self.connection.is_closed or self._abort_timer is not None:
            return
        self._abort_timer = self._services.call_later(CLOSE_GRACE_S, self.abort)
        self._containment.call(end_connection, self.connection)

    def abort(self) -> None:
        """Drop the connection without telling the broker."""
        self._over = True
        self._containment.call(abort_connection, self.connection)

    def _check_greeted(self) -> None:
        if self.connection.connection_state <= LinkConnection.CONNECTION_PROTOCOL:
            self.lost(NoGreeting())

    def _opened(self, _connection: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    def _ended(self, _connection: Any, error: BaseException) -> None:
        self._greeting_timer.cancel()
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._containment.call(self.lost, error)
        self._containment.call(self._tell_gone, self)
