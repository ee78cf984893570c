"""One link on its carrier thread: publications, listener, and channels, which are replaced on failure."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from miros_cache_net.amqp.channels import Channels
from miros_cache_net.amqp.containment import Containment
from miros_cache_net.amqp.link import Delivery, LinkListener, LinkUp, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.outbox import Outbox
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.amqp.reconnect import Reconnect
from miros_cache_net.amqp.session import Session
from miros_cache_net.amqp.topology import Topology
from miros_cache_net.clock import Clock
from miros_cache_net.errors import BrokerError, MessageRefused

_LOG = logging.getLogger(__name__)


class Carrier(Protocol):
    """The thread that carries a tenant."""

    services: LinkServices

    @property
    def session(self) -> Session | None:
        """The current connections, open or opening; None if there are none."""

    def tenant_up(self) -> None: ...

    def tenant_lost(self, tenant: Tenant, error: BrokerError, at_once: bool, hangs: bool) -> None:
        """The tenant's channels failed: let it retry, or drop the session."""

    def tenant_gone(self, tenant: Tenant) -> None:
        """The tenant has flushed and leaves."""


class Tenant:
    """`gone`, `silent_s`, `alarm` and the outbox are thread-safe; everything else runs on the carrier's thread."""

    def __init__(
        self,
        topology: Topology,
        options: LinkOptions,
        name: str,
        outbox: Outbox,
        listener: LinkListener,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.topology, self._options, self._name = topology, options, name
        self._outbox, self._listener = outbox, listener
        self._clock, self._rng = clock, rng
        self._contain = Containment(name)
        self._carrier: Carrier
        self._channels: Channels | None = None
        self._reconnect: Reconnect
        self._retry_timer: Any = None
        self._last_told: type[BrokerError] | None = None
        self._serve = False
        self._request_trouble = ""
        self._stopping = self._leaving = False
        self.given_up = False
        self._heard_s = 0.0
        self.gone = threading.Event()

    # --- called by the carrier ------------------------------------------------------------------------

    def carried_by(self, carrier: Carrier) -> None:
        self._carrier = carrier

    @property
    def stands(self) -> bool:
        """The link is up or coming up."""
        return self._channels is not None

    @property
    def is_up(self) -> bool:
        """Everything is declared and consuming."""
        return self._channels is not None and self._channels.is_up

    @property
    def silent_s(self) -> float | None:
        """As `Link.silent_s`."""
        if not self.is_up:
            return None
        return self._clock.monotonic_s() - self._heard_s if self.topology.canary_exchange else 0.0

    @property
    def alarm(self) -> str:
        """As `Link.alarm`."""
        channels = self._channels
        return "" if channels is None else channels.alarm

    def begin(self, session: Session) -> None:
        """A session exists: open channels on it."""
        self._reconnect = Reconnect((session.address,), self._clock, self._rng)
        self._open(session)

    def ended(self, news: BrokerError | None) -> None:
        """The session is lost or failed to connect; `news`: the error to report, if any."""
        self._cancel_retry()
        self._drop_channels(session_too=True)
        if news is not None:
            self.tell(news)

    def retry(self, error: BrokerError, at_once: bool) -> None:
        """This link's channels failed while the session stays up: retry."""
        delay_s, news = self._reconnect.lost(error, at_once)
        self._drop_channels(session_too=False)
        self.given_up = delay_s is None
        if news is not None:
            self.tell(news)
        if delay_s is not None and not self._stopping:
            self._retry_timer = self._carrier.services.call_later(delay_s, partial(self._contain.call, self._try_again))

    def tell(self, error: BrokerError) -> None:
        """Report `error` to the listener, unless it already knows."""
        if not self._stopping and type(error) is not self._last_told:
            self._last_told = type(error)
            self._contain.call(self._listener.link_down, error)

    def blocked(self, blocked: bool) -> None:
        if self._channels is not None:
            self._channels.blocked(blocked)
        if not blocked:
            self.pump()

    # --- called by the link ---------------------------------------------------------------------------

    def serve_requests(self, serve: bool) -> None:
        self._serve = serve
        if self._channels is not None:
            self._channels.serve_requests(serve)

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        if self._channels is None:
            self._contain.call(done, False)
        else:
            self._channels.acquire_lease(lambda held: self._told(done, held))

    def _told(self, done: Callable[[bool], None], held: bool) -> None:
        self._contain.call(done, held)

    def release_lease(self) -> None:
        if self._channels is not None:
            self._channels.release_lease()

    def pump(self) -> None:
        """Send waiting publications; they are lost while the link is down, and stay queued during an alarm."""
        self._outbox.awake()
        while (done := self._outbox.refused()) is not None:
            self._contain.call(done, False)
        channels = self._channels
        if channels is None or not channels.is_up:
            self._fail_waiting()
            return
        while channels.can_publish and (publication := self._outbox.take()) is not None:
            settled = partial(self._settled, publication)
            if not self._contain.call(channels.publish, publication, settled):
                settled(False)

    def stop(self) -> None:
        """Flush for at most `flush_s` seconds, then leave."""
        if self._stopping:
            return
        self._stopping = True
        self._cancel_retry()
        self.pump()
        if self._outbox.unsettled:
            self._carrier.services.call_later(self._options.flush_s, partial(self._contain.call, self._leave))
        else:
            self._leave()

    def over(self, *, session_too: bool) -> None:
        """The carrier has dropped this link."""
        self._outbox.close()
        self._drop_channels(session_too=session_too)
        self.gone.set()

    # --- called by the channels -----------------------------------------------------------------------

    def channels_up(self, up: LinkUp) -> None:
        if self._stopping:
            return
        self._last_told = None
        self.heard()
        self._reconnect.up()
        self._carrier.tenant_up()
        self._contain.call(self._listener.link_up, up)
        self.pump()

    def channels_lost(self, error: BrokerError, at_once: bool, hangs: bool) -> None:
        self._carrier.tenant_lost(self, error, at_once, hangs)

    def heard(self) -> None:
        self._heard_s = self._clock.monotonic_s()

    def request_news(self, error: BrokerError | None) -> None:
        trouble = "" if error is None else str(error)
        if trouble and trouble != self._request_trouble:
            _LOG.warning(
                "%s: the hosts' shared request queue is unavailable, so hosts join without it: %s",
                self._name,
                trouble,
            )
        self._request_trouble = trouble

    def delivered(self, delivery: Delivery) -> None:
        if not self._stopping:
            self._contain.call(self._listener.delivered, delivery)

    # --- helpers --------------------------------------------------------------------------------------

    def _open(self, session: Session) -> None:
        self._channels = Channels(
            self,
            self._carrier.services,
            session,
            self.topology,
            self._options,
            self._contain,
            serve_requests=self._serve,
        )
        self._channels.open()

    def _cancel_retry(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None

    def _try_again(self) -> None:
        session = self._carrier.session
        if session is not None and self._channels is None and not self._stopping:
            self._open(session)

    def _drop_channels(self, *, session_too: bool) -> None:
        channels, self._channels = self._channels, None
        if channels is not None and session_too:
            channels.finish()
        elif channels is not None:
            channels.close()
        self.pump()

    def _settled(self, publication: Publication, taken: bool, refused: MessageRefused | None = None) -> None:
        self._outbox.settle(publication)
        if refused is not None and publication.refused is not None:
            self._contain.call(publication.refused, refused)
        if publication.done is not None:
            self._contain.call(publication.done, taken)
        if self._stopping and not self._outbox.unsettled:
            self._leave()

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._carrier.tenant_gone(self)

    def _fail_waiting(self) -> None:
        while (publication := self._outbox.take()) is not None:
            self._settled(publication, False)
