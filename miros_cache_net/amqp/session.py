"""Two connections to one broker (one if the links only send), from the first SYN to the last FIN.  A lost session is
never repaired but replaced, so none of its state can be stale."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import pika

from miros_cache_net.amqp.containment import Containment
from miros_cache_net.amqp.failures import attempt_failed
from miros_cache_net.amqp.half import Half
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.errors import BrokerError
from miros_cache_net.settings.broker_address import BrokerAddress


class SessionOwner(Protocol):
    """Told what happens to a session, on the link's thread."""

    def session_lost(self, session: Session, error: BrokerError) -> None:
        """One of its connections failed; the other is being closed."""

    def session_blocked(self, blocked: bool) -> None:
        """An alarm at the broker blocks publications, or has ended."""

    def session_gone(self, session: Session) -> None:
        """All its sockets are closed."""


class Session:
    """Connects as soon as it is made.  All of it runs on the link's thread.

    alarm  why the broker blocks publications, in its own words; "" if it does not
    """

    def __init__(
        self,
        owner: SessionOwner,
        services: LinkServices,
        address: BrokerAddress,
        parameters: pika.ConnectionParameters,
        containment: Containment,
    ) -> None:
        self._owner, self.address, self.host = owner, address, parameters.host
        self.alarm = ""
        self._first_setup_s: float = 1.5 * parameters.stack_timeout
        self._setup_s: float = 3.0 * parameters.socket_timeout
        self._over = False
        self._new_half = partial(Half, services, parameters, containment, self._lost, self._half_gone)
        self._consuming: Half | None = None
        self.publishing = self._new_half()
        self.publishing.when_open(self._watch_alarms)
        self._halves: set[Half] = {self.publishing}

    @property
    def consuming(self) -> Half:
        """The consuming connection, opened on first use: links that only send need none."""
        if self._consuming is None:
            self._consuming = self._new_half()
            self._halves.add(self._consuming)
        return self._consuming

    @property
    def setup_s(self) -> float:
        """How long a link that begins now may take to have its channels ready."""
        return self._setup_s if self.publishing.connection.is_open else self._first_setup_s

    def end(self) -> None:
        """Close both connections; only `session_gone` is called after this."""
        self._over = True
        for half in list(self._halves):
            half.end()

    def abort(self) -> None:
        """Drop both connections without telling the broker."""
        self._over = True
        for half in list(self._halves):
            half.abort()

    def _watch_alarms(self) -> None:
        connection, guard = self.publishing.connection, self.publishing.guard
        connection.add_on_connection_blocked_callback(guard(lambda _, frame: self._set_alarm(_reason_in(frame))))
        connection.add_on_connection_unblocked_callback(guard(lambda *_: self._set_alarm("")))

    @property
    def is_blocked(self) -> bool:
        return bool(self.alarm)

    def _set_alarm(self, reason: str) -> None:
        self.alarm = reason
        self._owner.session_blocked(self.is_blocked)

    def _lost(self, cause: BaseException) -> None:
        if not self._over:
            self.end()
            self._owner.session_lost(self, attempt_failed(self.address, cause))

    def _half_gone(self, half: Half) -> None:
        self._halves.discard(half)
        if not self._halves:
            self._owner.session_gone(self)


def _reason_in(frame: Any) -> str:
    """The broker's words in ``connection.blocked``, for example ``low on disk``; never ""."""
    return " ".join(str(frame.method.reason).split())[:300] or "an alarm"
