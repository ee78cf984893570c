"""One life of a link: two connections from the first SYN to the last FIN.  A lost one is never mended, only followed
by another, so no state of it can be stale."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

import pika
from pika.exceptions import AMQPChannelError

from miros_cache_net.amqp import topology
from miros_cache_net.amqp.canary import Canary
from miros_cache_net.amqp.consumer import Consumer
from miros_cache_net.amqp.containment import Containment
from miros_cache_net.amqp.failures import attempt_failed
from miros_cache_net.amqp.half import Half
from miros_cache_net.amqp.link import Delivery, LinkUp, Place, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.amqp.publisher import Publisher
from miros_cache_net.errors import BrokerError, BrokerUnreachable, TopologyLost
from miros_cache_net.settings.broker_address import BrokerAddress

#: RabbitMQ closes the channel of one who asks for more.
_LONGEST_TTL_MS = 2**32 - 1


class SessionOwner(Protocol):
    """Told what happens to a session, on the link's thread."""

    def session_up(self, session: Session, up: LinkUp) -> None:
        """It consumes and takes publications."""

    def session_lost(self, session: Session, error: BrokerError, at_once: bool) -> None:
        """`at_once`: the broker is there, only something declared is not; no reason to wait."""

    def request_news(self, error: BrokerError | None) -> None:
        """The request queue cannot be had because of `error`; None: it can."""

    def session_unblocked(self) -> None: ...

    def session_gone(self, session: Session) -> None:
        """No socket of it is left."""

    def delivered(self, delivery: Delivery) -> None: ...


class Session:
    """Connects as soon as it is made.  All of it runs on the link's thread."""

    def __init__(
        self,
        owner: SessionOwner,
        services: LinkServices,
        place: Place,
        address: BrokerAddress,
        parameters: pika.ConnectionParameters,
        options: LinkOptions,
        containment: Containment,
        *,
        serve_requests: bool,
    ) -> None:
        self._owner, self._place, self.address = owner, place, address
        self._token = secrets.token_hex(8)
        self._up = self._over = False
        self._declared = self._ready = False
        self._serve = serve_requests
        common = (services, parameters, containment, self._lost, self._half_gone)
        self._canary = Canary(
            services, options.canary_interval_s, options.canary_timeout_s, self._send_canary, self._deaf
        )
        self._setup_timer = services.call_later(3 * options.connect_timeout_s, self._too_slow)
        self._consumer = Consumer(
            *common,
            place=place,
            token=self._token,
            declared=self._on_declared,
            consuming=self._on_consuming,
            delivered=owner.delivered,
            heard=self._canary.heard,
            news=self._request_news,
        )
        self._publisher = Publisher(
            *common,
            ready=self._on_ready,
            blocked=self._on_blocked,
            returned=self._deaf,
            request_returned=self._consumer.requests.missing,
            requests_refused=self._request_news,
        )
        self._halves: set[Half] = {self._consumer, self._publisher}

    @property
    def can_publish(self) -> bool:
        """It stands, and no alarm holds it."""
        return self._up and not self._publisher.is_blocked

    def publish(self, publication: Publication, settled: Callable[[bool], None]) -> None:
        exchange, key = topology.destination(self._place, publication)
        properties = self._properties(publication)
        if not publication.requests:
            self._publisher.send(exchange, key, publication.body, properties, settled)
        elif self._consumer.requests.servers is None:
            settled(False)
        else:
            self._publisher.ask(key, publication.body, properties, settled)

    def serve_requests(self, serve: bool) -> None:
        self._serve = serve
        if self._up:
            self._consumer.requests.serve(serve)

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        if self._up and not self._over:
            self._consumer.lease.acquire(done)
        else:
            done(False)

    def release_lease(self) -> None:
        if self._up and not self._over:
            self._consumer.lease.release()

    def end(self) -> None:
        """Close both connections; only `session_gone` is told any more."""
        self._finish()
        for half in list(self._halves):
            half.end()

    def abort(self) -> None:
        """Drop both connections without asking the broker."""
        self._finish()
        for half in list(self._halves):
            half.abort()

    # --- coming up ------------------------------------------------------------------------------------

    def _on_declared(self) -> None:
        self._declared = True
        self._consume_if_ready()

    def _on_ready(self) -> None:
        self._ready = True
        self._consume_if_ready()

    def _consume_if_ready(self) -> None:
        # Deliveries begin only when publishing works too: whoever gets one can answer it.
        if self._declared and self._ready:
            self._consumer.consume()

    def _on_consuming(self) -> None:
        self._setup_timer.cancel()
        self._up = True
        known = self._consumer.connection.server_properties or {}
        product = " ".join(str(known.get(name, "")) for name in ("product", "version")).strip()
        broker = f"{product or 'AMQP'} at {self.address}"
        self._owner.session_up(self, LinkUp(self._consumer.own_queue, self._consumer.requests.servers, broker))
        if not self._over:
            self._consumer.requests.serve(self._serve)
            self._canary.start()

    # --- while up -------------------------------------------------------------------------------------

    def _request_news(self, refusal: BaseException | None) -> None:
        error = None if refusal is None else attempt_failed(self.address, refusal, self._place)
        self._owner.request_news(error)

    def _on_blocked(self, blocked: bool) -> None:
        self._canary.blocked(blocked)
        if not blocked:
            self._owner.session_unblocked()

    def _properties(self, publication: Publication) -> pika.BasicProperties:
        ttl_s = publication.ttl_s
        return pika.BasicProperties(
            app_id=self._token,
            delivery_mode=1,
            expiration=None if ttl_s is None else str(min(max(0, int(ttl_s * 1000)), _LONGEST_TTL_MS)),
            headers={"key-id": publication.key_id} if publication.key_id else None,
            reply_to=self._consumer.own_queue if publication.reply_here else None,
        )

    def _send_canary(self) -> None:
        # Mandatory: an exchange without our bindings returns it, which is quicker than to miss it.
        self._publisher.send(
            self._place.exchange,
            topology.canary_key(self._token),
            b"",
            pika.BasicProperties(app_id=self._token),
            lambda _taken: None,
            mandatory=True,
        )

    # --- going down -----------------------------------------------------------------------------------

    def _deaf(self) -> None:
        self._lost(
            TopologyLost(
                f"nothing comes through exchange {self._place.exchange!r} at {self.address} any more: it was deleted "
                "and is declared again, or the broker hangs"
            )
        )

    def _too_slow(self) -> None:
        self._lost(BrokerUnreachable(f"RabbitMQ at {self.address} does not answer: is it overloaded or stopped?"))

    def _lost(self, cause: BaseException) -> None:
        if self._over:
            return
        at_once = isinstance(cause, AMQPChannelError | TopologyLost)
        error = cause if isinstance(cause, BrokerError) else attempt_failed(self.address, cause, self._place)
        self.end()
        self._owner.session_lost(self, error, at_once)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._up = False
            self._setup_timer.cancel()
            self._canary.stop()
            self._consumer.stop_timers()
            self._publisher.fail_unconfirmed()

    def _half_gone(self, half: Half) -> None:
        self._halves.discard(half)
        if not self._halves:
            self._owner.session_gone(self)
