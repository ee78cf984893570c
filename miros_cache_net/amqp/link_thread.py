"""The thread that carries links: one pair of connections to a broker at a time, for any number of links.

A failure of one link's channels affects that link alone while another is up on the same connections.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from miros_cache_net.amqp.containment import Containment
from miros_cache_net.amqp.failures import attempt_failed
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.look_up import GetAddrInfo, numeric_hosts
from miros_cache_net.amqp.pika_loop import THREAD_NAME_PREFIX, LinkServices
from miros_cache_net.amqp.pika_parameters import connection_parameters
from miros_cache_net.amqp.reconnect import Reconnect
from miros_cache_net.amqp.session import Session
from miros_cache_net.amqp.tenant import Tenant
from miros_cache_net.errors import BrokerError, BrokerUnreachable
from miros_cache_net.settings.broker_address import BrokerAddress

#: Time for closing connections properly before they are dropped, then time until the thread ends.
_CLOSE_S = 2.0
_FORCE_S = 0.5


class LinkThread(threading.Thread):
    """`call` is thread-safe; everything else runs on this thread, which no callback's exception ends."""

    def __init__(
        self,
        options: LinkOptions,
        tls: ssl.SSLContext | None,
        name: str,
        reconnect: Reconnect,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
    ) -> None:
        super().__init__(name=f"{THREAD_NAME_PREFIX}-{name}", daemon=True)
        self._options, self._tls, self._link_name = options, tls, name
        self._reconnect = reconnect
        self._contain = Containment(name)
        self.services = LinkServices(getaddrinfo)
        self.session: Session | None = None
        self._sessions: set[Session] = set()  # those with a socket left
        self._tenants: list[Tenant] = []
        self._is_up = False
        self._trouble: BrokerError | None = None
        self._no_more = False
        self._closing = False
        self._ended = False
        self._retry_timer: Any = None
        self._look_up: Any = None

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called on this thread, soon."""
        self.services.add_callback_threadsafe(partial(self._contain.call, function))

    # --- the loop -------------------------------------------------------------------------------------

    def run(self) -> None:
        while not self._ended:
            try:
                self.services.turn()
            except Exception as error:  # raised by pika itself: ours are contained before they reach the loop
                self._contain.report("pika", error)
                self._contain.call(self._escaped, error)
        self.services.loop.close()

    def _escaped(self, error: Exception) -> None:
        """Timers may have been lost with the exception, so drop everything and start again."""
        for session in list(self._sessions):
            session.abort()
        if self.session is not None:
            self._lose(BrokerUnreachable(f"an error in pika: {type(error).__name__}"), at_once=False)
        elif self._closing:
            self._end()
        elif self._wanted():
            self._retry_in(1.0)

    def _connect(self) -> None:
        self._retry_timer = None
        if self._closing or self.session is not None or not self._wanted():
            return
        address, host = self._reconnect.address, self._reconnect.host
        if host is None:
            self._ask_for_addresses(address)
            return
        patience = self._reconnect.patience
        try:
            # both connections go to one address, so to one broker
            parameters = connection_parameters(address, host, self._options, self._tls, self._link_name, patience)
            self.session = Session(self, self.services, address, parameters, self._contain)
        except Exception as error:
            # no session, so nothing else would try again
            self._contain.report("connecting", error)
            self._retry_in(1.0)
            return
        self._sessions.add(self.session)
        for tenant in self._wanted():
            tenant.begin(self.session)

    def _ask_for_addresses(self, address: BrokerAddress) -> None:
        self._cancel_retry()
        late = partial(self._contain.call, self._addresses, TimeoutError())
        self._retry_timer = self.services.call_later(3 * self._options.connect_timeout_s, late)
        done = partial(self._contain.call, self._addresses)
        self._look_up = self.services.getaddrinfo(address.host, address.port, done, socktype=socket.SOCK_STREAM)

    def _addresses(self, answer: Any) -> None:
        self._cancel_retry()
        if isinstance(answer, list) and (hosts := numeric_hosts(answer)):
            self._reconnect.found(hosts)
            self._connect()
        else:
            error = answer if isinstance(answer, BaseException) else OSError("its name resolves to no address")
            self._lose(attempt_failed(self._reconnect.address, error), at_once=False)

    def _cancel_retry(self) -> None:
        for pending in (self._retry_timer, self._look_up):
            if pending is not None:
                pending.cancel()
        self._retry_timer = self._look_up = None

    def _retry_in(self, delay_s: float) -> None:
        self._cancel_retry()
        self._retry_timer = self.services.call_later(delay_s, partial(self._contain.call, self._connect))

    # --- links come and go ----------------------------------------------------------------------------

    def add(self, tenant: Tenant) -> None:
        """Carry `tenant`, on the existing connections or on new ones."""
        self._tenants.append(tenant)
        tenant.carried_by(self)
        if self.session is not None:
            tenant.begin(self.session)
            return
        if self._trouble is not None:
            tenant.tell(self._trouble)
        if self._retry_timer is None:
            self._connect()

    def remove(self, tenant: Tenant, last: bool) -> None:
        """Let `tenant` flush, then drop it; `last`: no other will be added, so the thread ends."""
        self._no_more = self._no_more or last
        tenant.stop()

    def tenant_gone(self, tenant: Tenant) -> None:
        self._tenants.remove(tenant)
        self._closing = self._no_more and not self._tenants
        tenant.over(session_too=self._closing)
        if self._closing:
            self._close()
        elif self._tenants:
            self._rest()

    def _wanted(self) -> list[Tenant]:
        return [tenant for tenant in self._tenants if not tenant.given_up]

    def _rest(self) -> None:
        """Close the connections if all links have given up."""
        if self.session is not None and not self._wanted():
            session, self.session, self._is_up = self.session, None, False
            session.end()

    def _close(self) -> None:
        self._cancel_retry()
        self.services.call_later(_CLOSE_S, self._close_by_force)
        for session in list(self._sessions):
            session.end()
        if not self._sessions:
            self._end()

    def _close_by_force(self) -> None:
        for session in list(self._sessions):
            session.abort()
        # An aborted connection takes one more turn of the loop to close its socket.
        self.services.call_later(_FORCE_S, self._end)

    def _end(self) -> None:
        self._ended = True

    # --- what tenants and sessions tell -----------------------------------------------------------------

    def tenant_up(self) -> None:
        if not self._is_up:
            self._is_up, self._trouble = True, None
            self._reconnect.up()

    def tenant_lost(self, tenant: Tenant, error: BrokerError, at_once: bool, hangs: bool) -> None:
        others = [each for each in self._wanted() if each is not tenant]
        if error.fatal:
            tenant.retry(error, at_once)
            self._rest()
        # a link that merely waits too is no evidence that the broker answers
        elif hangs or not any(each.stands if at_once else each.is_up for each in others):
            self._lose(error, at_once)
        else:
            tenant.retry(error, at_once)

    def session_lost(self, session: Session, error: BrokerError) -> None:
        if session is self.session:
            self._lose(error, at_once=False)

    def session_blocked(self, blocked: bool) -> None:
        for tenant in list(self._tenants):
            tenant.blocked(blocked)

    def session_gone(self, session: Session) -> None:
        self._sessions.discard(session)
        if self._closing and not self._sessions:
            self._end()

    def _lose(self, error: BrokerError, at_once: bool) -> None:
        """The session is over for all links; `Reconnect` says where to go on, and when."""
        session, self.session, self._is_up = self.session, None, False
        if session is not None:
            session.end()
        delay_s, news = self._reconnect.lost(error, at_once)
        self._trouble = news or self._trouble
        for tenant in self._wanted():
            tenant.ended(news)
        if delay_s is not None and not self._closing:
            self._retry_in(delay_s)
