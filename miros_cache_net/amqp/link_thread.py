"""What a link does on its own thread: make sessions, one after the other, and move publications into them."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from miros_cache_net.amqp.containment import Containment
from miros_cache_net.amqp.link import Delivery, LinkListener, LinkUp, Place, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.outbox import Outbox
from miros_cache_net.amqp.pika_loop import THREAD_NAME_PREFIX, LinkServices
from miros_cache_net.amqp.pika_parameters import connection_parameters
from miros_cache_net.amqp.reconnect import Reconnect
from miros_cache_net.amqp.session import Session
from miros_cache_net.errors import BrokerError, BrokerUnreachable

_LOG = logging.getLogger(__name__)

#: After this much time for closing connections properly, they are dropped; after that much more the thread ends.
_CLOSE_S = 2.0
_FORCE_S = 0.5


class LinkThread(threading.Thread):
    """`call` is for any thread; everything else runs on this one, and no exception of a callback ends it."""

    def __init__(
        self,
        place: Place,
        options: LinkOptions,
        tls: ssl.SSLContext | None,
        name: str,
        reconnect: Reconnect,
        outbox: Outbox,
        listener: LinkListener,
    ) -> None:
        super().__init__(name=f"{THREAD_NAME_PREFIX}-{name}", daemon=True)
        self._place, self._options, self._tls, self._link_name = place, options, tls, name
        self._reconnect, self._outbox, self._listener = reconnect, outbox, listener
        self._contain = Containment(name)
        self._services = LinkServices()
        self._session: Session | None = None
        self._sessions: set[Session] = set()  # those with a socket left
        self._up = False
        self._serve = False
        self._request_trouble = ""
        self._given_up = False
        self._stopping = False
        self._closing = False
        self._ended = False
        self._retry_timer: Any = None

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called on this thread, soon."""
        self._services.add_callback_threadsafe(partial(self._contain.call, function))

    # --- the loop -------------------------------------------------------------------------------------

    def run(self) -> None:
        self.call(self._connect)
        while not self._ended:
            try:
                self._services.loop.start()
            except Exception as error:  # of pika itself: ours are contained before they reach the loop
                self._contain.report("pika", error)
                self._contain.call(self._escaped, error)
        self._outbox.close()
        self._fail_waiting()
        self._services.loop.close()

    def _escaped(self, error: Exception) -> None:
        """Timers may be lost with what escaped: everything that stood is given up and begun again."""
        for session in list(self._sessions):
            session.abort()
        if self._session is not None:
            self.session_lost(self._session, BrokerUnreachable(f"a fault in pika: {type(error).__name__}"), False)
        elif self._closing:
            self._end()
        elif not self._given_up:
            self._retry_in(1.0)

    def _connect(self) -> None:
        if self._stopping or self._session is not None:
            return
        address = self._reconnect.address
        parameters = connection_parameters(address, self._options, self._tls, self._link_name)
        session = Session(
            self,
            self._services,
            self._place,
            address,
            parameters,
            self._options,
            self._contain,
            serve_requests=self._serve,
        )
        self._session = session
        self._sessions.add(session)

    def _retry_in(self, delay_s: float) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        self._retry_timer = self._services.call_later(delay_s, partial(self._contain.call, self._connect))

    # --- what the link is asked -----------------------------------------------------------------------

    def serve_requests(self, serve: bool) -> None:
        self._serve = serve
        if self._session is not None:
            self._session.serve_requests(serve)

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        if self._session is None:
            done(False)
        else:
            self._session.acquire_lease(lambda held: self._told(done, held))

    def _told(self, done: Callable[[bool], None], held: bool) -> None:
        self._contain.call(done, held)

    def release_lease(self) -> None:
        if self._session is not None:
            self._session.release_lease()

    def pump(self) -> None:
        """Send what waits; without a link it is lost, while an alarm lasts it stays."""
        self._outbox.awake()
        while (done := self._outbox.refused()) is not None:
            self._contain.call(done, False)
        if not self._up:
            self._fail_waiting()
            return
        while self._session is not None and self._session.can_publish:
            publication = self._outbox.take()
            if publication is None:
                return
            settled = partial(self._settled, publication)
            if not self._contain.call(self._session.publish, publication, settled):
                settled(False)

    def stop(self) -> None:
        """Send what was handed over, if that goes quickly, then close everything and end."""
        if self._stopping:
            return
        self._stopping = True
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        self.pump()
        if self._outbox.unsettled:
            self._services.call_later(self._options.flush_s, partial(self._contain.call, self._close))
        else:
            self._close()

    def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._services.call_later(_CLOSE_S, self._close_by_force)
        for session in list(self._sessions):
            session.end()
        if not self._sessions:
            self._end()

    def _close_by_force(self) -> None:
        for session in list(self._sessions):
            session.abort()
        # An aborted connection takes one more turn of the loop to close its socket.
        self._services.call_later(_FORCE_S, self._end)

    def _end(self) -> None:
        self._ended = True
        self._services.loop.stop()

    def _settled(self, publication: Publication, taken: bool) -> None:
        self._outbox.settle(publication)
        if publication.done is not None:
            self._contain.call(publication.done, taken)
        if self._stopping and not self._closing and not self._outbox.unsettled:
            self._close()

    def _fail_waiting(self) -> None:
        while (publication := self._outbox.take()) is not None:
            self._settled(publication, False)

    # --- what the session tells -----------------------------------------------------------------------

    def session_up(self, session: Session, up: LinkUp) -> None:
        if session is not self._session or self._stopping:
            return
        self._up = True
        self._reconnect.up()
        self._contain.call(self._listener.link_up, up)
        self.pump()

    def session_lost(self, session: Session, error: BrokerError, at_once: bool) -> None:
        if session is not self._session:
            return
        self._session, self._up = None, False
        delay_s, news = self._reconnect.lost(error, at_once)
        self._given_up = delay_s is None
        self.pump()
        if self._stopping:
            return
        if news is not None:
            self._contain.call(self._listener.link_down, news)
        if delay_s is not None:
            self._retry_in(delay_s)

    def request_news(self, error: BrokerError | None) -> None:
        trouble = "" if error is None else str(error)
        if trouble and trouble != self._request_trouble:
            _LOG.warning(
                "%s: the queue that hosts share for requests cannot be had, joins go without it: %s",
                self._link_name,
                trouble,
            )
        self._request_trouble = trouble

    def session_unblocked(self) -> None:
        self.pump()

    def session_gone(self, session: Session) -> None:
        self._sessions.discard(session)
        if self._closing and not self._sessions:
            self._end()

    def delivered(self, delivery: Delivery) -> None:
        if not self._stopping:
            self._contain.call(self._listener.delivered, delivery)
