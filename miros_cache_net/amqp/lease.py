"""One holder at a time among all links: an exclusive queue, which dies with its owner's connection.

Declaring a queue that another connection owns is refused (405 RESOURCE_LOCKED), and the refusal closes the channel, so
each attempt uses a new one.  If the broker refuses for another reason (permissions) or does not answer (it waits for a
frozen cluster member), no link could get the lease, so the asker may go on: a lease is not a fence, and several
discoveries do less harm than none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pika.exceptions import ChannelClosedByBroker

from miros_cache_net import limits
from miros_cache_net.amqp.pika_loop import LinkServices

_RESOURCE_LOCKED: Final = 405


class Lease:
    """On the consuming connection of a session; all of it runs on the link's thread.

    `guard` wraps our callbacks and contains their exceptions.
    """

    def __init__(
        self,
        services: LinkServices,
        connection: Any,
        queue: str,
        guard: Callable[[Callable[..., None]], Callable[..., None]],
    ) -> None:
        self._services, self._connection, self._queue, self._guard = services, connection, queue, guard
        self._timer: Any = None
        self._wanted = False
        self._channel: Any = None
        self._asked: Any = None  # channel of the latest attempt
        self._waiting: Callable[[bool], None] | None = None

    def acquire(self, done: Callable[[bool], None]) -> None:
        """`done(True)` once the lease is ours or nobody can have it; `done(False)` if another link has it or an attempt
        is pending."""
        if self._wanted:
            done(False)
            return
        self._wanted, self._waiting = True, done
        self._timer = self._services.call_later(limits.LEASE_WAIT_S, self._guard(lambda: self._tell(True)))
        self._connection.channel(on_open_callback=self._guard(self._opened))

    def release(self) -> None:
        self._tell(False)
        channel, self._channel, self._wanted = self._channel, None, False
        if channel is not None:
            self._give_back(channel)

    def end(self) -> None:
        """The session is over, and the lease with it."""
        self._channel = None
        self._tell(False)

    def close(self) -> None:
        """The session is over, but the connection stays open and would keep the lease: delete its queue."""
        if self._asked is not None:
            self._give_back(self._asked)

    def _opened(self, channel: Any) -> None:
        self._asked = channel
        channel.add_on_close_callback(self._guard(self._closed))
        channel.queue_declare(self._queue, exclusive=True, callback=self._guard(lambda _frame: self._held(channel)))

    def _held(self, channel: Any) -> None:
        if self._wanted:
            self._channel = channel
            self._tell(True)
        else:
            # released before it was granted
            self._give_back(channel)

    def _give_back(self, channel: Any) -> None:
        if channel.is_open:
            channel.queue_delete(self._queue)
            channel.close()

    def _closed(self, channel: Any, reason: BaseException) -> None:
        if channel is self._channel:
            self._channel = None
        self._tell(isinstance(reason, ChannelClosedByBroker) and reason.reply_code != _RESOURCE_LOCKED)

    def _tell(self, held: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._timer.cancel()
            self._wanted = held
            waiting(held)
