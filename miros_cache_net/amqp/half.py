"""One of a session's two connections: how it opens, how its loss is told once, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika

from miros_cache_net.amqp.containment import Containment
from miros_cache_net.amqp.pika_loop import LinkConnection, LinkServices, abort_connection, end_connection

#: What a broker is given to answer the closing of a connection.
CLOSE_GRACE_S = 1.0


class Half:
    """All of it runs on the link's thread.

    `lost` is called once, with what pika said, when the connection or a channel of it fails; `gone` once, when
    nothing is left of it.  Callbacks given to pika go through `guard`, so that a fault of ours never reaches it.
    """

    def __init__(
        self,
        services: LinkServices,
        parameters: pika.ConnectionParameters,
        containment: Containment,
        lost: Callable[[BaseException], None],
        gone: Callable[[Half], None],
    ) -> None:
        self._services = services
        self._containment = containment
        self._tell_lost = lost
        self._tell_gone = gone
        self._over = False
        self._abort_timer: Any = None
        self.connection = LinkConnection(
            parameters,
            on_open_callback=self.guard(self._opened),
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            custom_ioloop=services,
        )

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """`function`, that does nothing once this half is over and whose exceptions cost the connection only."""

        def guarded(*args: Any) -> None:
            if self._over:
                return
            try:
                function(*args)
            except Exception as error:
                self._containment.report(function.__qualname__, error)
                self.lost(error)

        return guarded

    def open_channel(self, opened: Callable[[Any], None]) -> None:
        """Open a channel whose closing by the broker is a loss."""

        def watch(channel: Any) -> None:
            channel.add_on_close_callback(self.guard(lambda _channel, reason: self.lost(reason)))
            opened(channel)

        self.connection.channel(on_open_callback=self.guard(watch))

    def lost(self, cause: BaseException) -> None:
        """It is of no more use: told once."""
        if not self._over:
            self._over = True
            self._tell_lost(cause)

    def end(self) -> None:
        """Close it; nothing is told any more but `gone`."""
        self._over = True
        if self.connection.is_closed or self._abort_timer is not None:
            return
        self._abort_timer = self._services.call_later(CLOSE_GRACE_S, self.abort)
        self._containment.call(end_connection, self.connection)

    def abort(self) -> None:
        """Drop it without asking the broker."""
        self._over = True
        self._containment.call(abort_connection, self.connection)

    @property
    def over(self) -> bool:
        return self._over

    def _opened(self, _connection: Any) -> None:
        raise NotImplementedError

    def _ended(self, _connection: Any, error: BaseException) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._containment.call(self.lost, error)
        self._containment.call(self._tell_gone, self)
