"""One link's channels on the connections of a session, from opening to close.

Failed channels are never repaired but replaced, so none of their state can be stale.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Protocol

import pika
from pika.exceptions import AMQPChannelError

from miros_cache_net.amqp.canary import Canary
from miros_cache_net.amqp.consumer import Consumer
from miros_cache_net.amqp.containment import Containment, Guarded
from miros_cache_net.amqp.echo import Echo
from miros_cache_net.amqp.failures import attempt_failed
from miros_cache_net.amqp.link import Delivery, LinkUp, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.amqp.publisher import Publisher, Settled
from miros_cache_net.amqp.refusals import refusal_in, rejected
from miros_cache_net.amqp.session import Session
from miros_cache_net.amqp.topology import Topology, canary_key, comes_back, destination
from miros_cache_net.errors import BrokerError, BrokerUnreachable, MessageRefused, TopologyLost

#: RabbitMQ closes the channel on a longer TTL.
_LONGEST_TTL_MS = 2**32 - 1


class ChannelsOwner(Protocol):
    """Told what happens to a link's channels, on the link's thread."""

    def channels_up(self, up: LinkUp) -> None:
        """The channels consume and take publications."""

    def channels_lost(self, error: BrokerError, at_once: bool, hangs: bool) -> None:
        """`at_once`: the broker answers and only something declared is gone, so retry at once; `hangs`: it may hang."""

    def heard(self) -> None:
        """A message has come through the canary's exchange."""

    def request_news(self, error: BrokerError | None) -> None:
        """The request queue is unavailable because of `error`; None: it is available."""

    def delivered(self, delivery: Delivery) -> None: ...


class Channels(Guarded):
    """All of it runs on the link's thread."""

    def __init__(
        self,
        owner: ChannelsOwner,
        services: LinkServices,
        session: Session,
        topology: Topology,
        options: LinkOptions,
        containment: Containment,
        *,
        serve_requests: bool,
    ) -> None:
        super().__init__(containment)
        self._owner, self._session, self._topology = owner, session, topology
        self._token = secrets.token_hex(8)
        self._declared = self._ready = False
        self.is_up = False
        self._serve = serve_requests
        self._canary = Canary(
            services, options.canary_interval_s, options.canary_timeout_s, self.guard(self._send_canary), self._silent
        )
        self._echo = Echo(services, options.canary_timeout_s, self.guard(self._unrouted))
        #: Declares the exchanges, and consumes the link's own queue.
        self._half = session.publishing if topology.own_queue is None else session.consuming
        self._setup_timer = services.call_later(session.setup_s, self.guard(self._too_slow))
        self._consumer = Consumer(
            services,
            self._half.connection,
            self.guard,
            self.lost,
            topology=topology,
            token=self._token,
            declared=self._on_declared,
            consuming=self._on_consuming,
            delivered=owner.delivered,
            heard=self._heard,
            news=self._request_news,
        )
        self._publisher = Publisher(
            session.publishing.connection,
            self.guard,
            self.lost,
            ready=self._on_ready,
            returned=self._deaf,
            request_returned=self._consumer.requests.missing,
            requests_refused=self._request_news,
            refusal=partial(refusal_in, session.address),
            rejected=partial(rejected, session.address),
        )
        if session.is_blocked:
            self._canary.blocked(True)

    def open(self) -> None:
        """Open the channels as soon as the connections are up."""
        self._half.when_open(self.guard(self._consumer.open))
        self._session.publishing.when_open(self.guard(self._publisher.open))

    @property
    def can_publish(self) -> bool:
        """The channels are up and no alarm blocks them."""
        return self.is_up and not self._session.is_blocked

    @property
    def alarm(self) -> str:
        """As `Link.alarm`."""
        return self._session.alarm

    def publish(self, publication: Publication, settled: Settled) -> None:
        exchange, key = destination(self._topology, publication)
        properties = self._properties(publication)
        if not publication.requests:
            if comes_back(self._topology, exchange, key):
                settled = self._echo.expected(settled)
            self._publisher.send(exchange, key, publication.body, properties, settled, publication.mandatory)
        elif self._consumer.requests.servers is None:
            settled(False)
        else:
            self._publisher.ask(key, publication.body, properties, settled)

    def serve_requests(self, serve: bool) -> None:
        self._serve = serve
        if self.is_up:
            self._consumer.requests.serve(serve)

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        if self.is_up:
            self._consumer.lease.acquire(done)
        else:
            done(False)

    def release_lease(self) -> None:
        if self.is_up:
            self._consumer.lease.release()

    def blocked(self, blocked: bool) -> None:
        self._canary.blocked(blocked)

    def finish(self) -> None:
        """Give the channels up: no more callbacks, no timers left."""
        if not self._over:
            self._over = True
            self.is_up = False
            self._setup_timer.cancel()
            self._canary.stop()
            self._echo.stop()
            self._consumer.stop_timers()
            self._publisher.fail_unconfirmed()

    def close(self) -> None:
        """Finish, and release what would otherwise live as long as the connections, which stay open."""
        self.finish()
        if self._half.connection.is_open:
            self._containment.call(self._consumer.close)
        if self._session.publishing.connection.is_open:
            self._containment.call(self._publisher.close)

    # --- coming up ------------------------------------------------------------------------------------

    def _on_declared(self) -> None:
        self._declared = True
        self._consume_if_ready()

    def _on_ready(self) -> None:
        self._ready = True
        self._consume_if_ready()

    def _consume_if_ready(self) -> None:
        # Deliveries begin only once publishing works too, so that each can be answered.
        if self._declared and self._ready:
            self._consumer.consume()

    def _on_consuming(self) -> None:
        self._setup_timer.cancel()
        self.is_up = True
        requests, broker = self._consumer.requests, f"{self._consumer.broker} at {self._session.address}"
        self._owner.channels_up(LinkUp(self._consumer.own_queue, requests.servers, broker, self._session.host))
        if not self._over:
            requests.serve(self._serve)
            if self._topology.canary_exchange:
                self._canary.start()

    # --- while up -------------------------------------------------------------------------------------

    def _heard(self, is_canary: bool) -> None:
        self._canary.heard()
        if not is_canary:
            self._echo.heard()
        self._owner.heard()

    def _request_news(self, refusal: BaseException | None) -> None:
        error = None if refusal is None else attempt_failed(self._session.address, refusal)
        self._owner.request_news(error)

    def _properties(self, publication: Publication) -> pika.BasicProperties:
        ttl_s = publication.ttl_s
        return pika.BasicProperties(
            app_id=self._token,
            delivery_mode=1,
            expiration=None if ttl_s is None else str(min(max(0, int(ttl_s * 1000)), _LONGEST_TTL_MS)),
            headers={"key-id": publication.key_id} if publication.key_id else None,
            message_id=publication.message_id or None,
            reply_to=(self._consumer.own_queue or None) if publication.reply_here else None,
        )

    def _send_canary(self) -> None:
        # Mandatory: an exchange without our bindings returns it, which is faster than the timeout.
        self._publisher.send(
            self._topology.canary_exchange,
            canary_key(self._token),
            b"",
            pika.BasicProperties(app_id=self._token),
            self._canary_settled,
            mandatory=True,
        )

    def _canary_settled(self, _taken: bool, refused: MessageRefused | None = None) -> None:
        # even a broker that refuses the canary is there
        if refused is not None:
            self._heard(is_canary=True)

    # --- going down -----------------------------------------------------------------------------------

    def lost(self, cause: BaseException) -> None:
        self._lost(cause)

    def _deaf(self) -> None:
        """The broker returned the canary, so it answers: retry at once."""
        self._lost(self._nothing_comes())

    def _silent(self) -> None:
        """The broker is silent and may hang: an immediate retry could take as long again."""
        self._lost(self._nothing_comes(), hangs=True)

    def _unrouted(self) -> None:
        """The broker answers but has lost a route: a new queue gets a new one."""
        self._lost(
            TopologyLost(
                f"RabbitMQ at {self._session.address} routes nothing more from exchange "
                f"{self._topology.canary_exchange!r} to this host, although the binding is there, as may happen "
                "after a partition of a cluster; a new queue is declared"
            )
        )

    def _nothing_comes(self) -> TopologyLost:
        return TopologyLost(
            f"nothing comes through exchange {self._topology.canary_exchange!r} at {self._session.address} any more: "
            "it was deleted and is declared again, or the broker hangs"
        )

    def _too_slow(self) -> None:
        self._lost(
            BrokerUnreachable(
                f"RabbitMQ at {self._session.address} does not answer: is it overloaded or stopped?", may_be_busy=True
            )
        )

    def _lost(self, cause: BaseException, *, hangs: bool = False) -> None:
        if not self._over:
            at_once = isinstance(cause, AMQPChannelError | TopologyLost) and not hangs
            error = cause if isinstance(cause, BrokerError) else attempt_failed(self._session.address, cause)
            self.finish()
            self._owner.channels_lost(error, at_once, hangs)
