"""One life of a link: two connections from the first SYN to the last FIN.  A lost one is never mended, only followed
by another, so no state of it can be stale.

The one that consumes comes first and may ask the first question itself, so that a host that joins need not wait for
the other one; that is made when something is to be published, or soon after.  Where that went wrong (an alarm, a broker
that refuses a second connection), the next session has both before it stands.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import pika
from pika.exceptions import AMQPChannelError
from pika.spec import INTERNAL_ERROR

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.canary import Canary
from miros_cache_net.amqp.consumer import Consumer
from miros_cache_net.amqp.containment import Containment
from miros_cache_net.amqp.failures import attempt_failed
from miros_cache_net.amqp.first_look import Enquiry
from miros_cache_net.amqp.half import Half
from miros_cache_net.amqp.link import Delivery, FirstQuestion, LinkUp, Place, Publication
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.amqp.publisher import Publisher
from miros_cache_net.errors import BrokerError, BrokerUnreachable, TopologyLost
from miros_cache_net.settings.broker_address import BrokerAddress

#: RabbitMQ closes the channel of one who asks for more.
_LONGEST_TTL_MS = 2**32 - 1
#: When the connection that publishes is made, though nothing is to be published: by then a first question is answered.
PUBLISHER_AFTER_S = 0.1


class SessionOwner(Protocol):
    """Told what happens to a session, on the link's thread."""

    answers_directly: bool
    """Channels that wait for an answer are answered."""

    def session_up(self, session: Session, up: LinkUp) -> None:
        """It consumes, and takes questions."""

    def session_complete(self, session: Session) -> None:
        """It takes all publications."""

    def session_lost(self, session: Session, error: BrokerError, at_once: bool) -> None:
        """`at_once`: the broker is there, only something declared is not; no reason to wait."""

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
        first_question: FirstQuestion,
        serve_requests: bool,
        both_first: bool,
    ) -> None:
        self._owner, self._place, self.address = owner, place, address
        self._token = secrets.token_hex(8)
        self._up = False
        self._over = False
        self._consumes = self._ready = self._watched = False
        self.was_complete = False
        """Both connections stand, or did."""
        self._serve, self._both_first = serve_requests, both_first
        self._first_question, self.looked = first_question, False
        self._answers_directly = self.was_broken_by_answer = False
        self._services, self._containment = services, containment
        self._common = (services, parameters, containment, self._lost, self._half_gone)
        self._canary = Canary(
            services, options.canary_interval_s, options.canary_timeout_s, self._send_canary, self._deaf
        )
        self._publisher_timer: Any = None
        self._setup_s = 3 * options.connect_timeout_s
        self._setup_timer = services.call_later(self._setup_s, self._too_slow)
        self._consumer = Consumer(
            *self._common,
            place=place,
            token=self._token,
            look=self._look,
            consuming=self._on_consuming,
            watched=self._on_watched,
            blocked=self._on_question_blocked,
            direct=lambda: owner.answers_directly,
            delivered=owner.delivered,
            heard=self._canary.heard,
        )
        self._publisher: Publisher | None = None
        self._halves: set[Half] = {self._consumer}
        if both_first:
            self._connect_publisher()

    def can_publish(self, publication: Publication) -> bool:
        """It stands, and no alarm holds it; a question need not wait for the connection that publishes."""
        if self._publisher is not None and self._ready:
            return self._up and not self._publisher.is_blocked
        return self._up and is_question(publication)

    def publish(self, publication: Publication, settled: Callable[[bool], None]) -> None:
        """Send what `can_publish`."""
        exchange, key = topology.destination(self._place, publication)
        self._answers_directly |= not exchange and topology.is_direct_reply(key)
        properties = self._properties(publication)
        if self._publisher is not None and self._ready:
            self._publisher.send(exchange, key, publication.body, properties, settled)
        else:
            self._consumer.ask(key, publication.body, properties)
            settled(True)

    def complete(self) -> None:
        """There is something to publish: make the connection for that now, where it stands without."""
        if self._up:
            self._connect_publisher()

    def serve_requests(self, serve: bool) -> None:
        """Requests are taken only when publishing works: whoever gets one can answer it."""
        self._serve = serve
        if self.was_complete:
            self._consumer.serve_requests(serve)
        elif serve:
            self.complete()

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

    def _look(self) -> Enquiry | None:
        question = None if self._both_first else self._first_question()
        if question is None:
            return None
        self.looked = True
        _exchange, queue = topology.destination(self._place, question)
        # nobody listens any more by then, and it must not come back to who is the first in the fleet
        properties = self._properties(replace(question, ttl_s=limits.FIRST_LOOK_S))
        properties.reply_to = topology.DIRECT_REPLY_TO
        return Enquiry(queue, question.body, properties)

    def _on_consuming(self) -> None:
        self._consumes = True
        self._setup_timer.cancel()
        self._setup_timer = self._services.call_later(self._setup_s, self._too_slow)
        if self._serve:
            self._connect_publisher()
        elif not self._both_first:
            later = partial(self._containment.call, self._connect_publisher)
            self._publisher_timer = self._services.call_later(PUBLISHER_AFTER_S, later)
        if self._ready or not self._both_first:
            self._stand()

    def _connect_publisher(self) -> None:
        if self._publisher is None:
            self._publisher = Publisher(
                *self._common, ready=self._on_ready, blocked=self._on_blocked, returned=self._deaf
            )
            self._halves.add(self._publisher)

    def _on_ready(self) -> None:
        self._ready = True
        if self._up:
            self._completed()
        elif self._consumes:
            self._stand()

    def _stand(self) -> None:
        self._up = True
        known = self._consumer.connection.server_properties or {}
        product = " ".join(str(known.get(name, "")) for name in ("product", "version")).strip()
        broker = f"{product or 'AMQP'} at {self.address}"
        self._owner.session_up(self, LinkUp(self._consumer.own_queue, self._consumer.request_servers or 0, broker))
        if self._ready and not self._over:
            self._completed()

    def _completed(self) -> None:
        self.was_complete = True
        self._setup_timer.cancel()
        self._consumer.serve_requests(self._serve)
        self._owner.session_complete(self)
        self._watch_if_complete()

    def _on_watched(self) -> None:
        self._watched = True
        self._watch_if_complete()

    def _watch_if_complete(self) -> None:
        if self._watched and self.was_complete:
            self._canary.start()

    # --- while up -------------------------------------------------------------------------------------

    def _on_question_blocked(self) -> None:
        """An alarm: the broker reads nothing more of a connection that has published, not even acknowledgements."""
        self._lost(BrokerUnreachable(f"RabbitMQ at {self.address} takes no messages at present (memory or disk alarm)"))

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
        assert self._publisher is not None
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
                f"nothing comes through exchange {self._place.exchange!r} at {self.address} any more, it was deleted: "
                "it is declared again"
            )
        )

    def _too_slow(self) -> None:
        self._lost(BrokerUnreachable(f"RabbitMQ at {self.address} does not answer: is it overloaded or stopped?"))

    def _lost(self, cause: BaseException) -> None:
        if self._over:
            return
        at_once = isinstance(cause, AMQPChannelError | TopologyLost)
        self.was_broken_by_answer = self._answers_directly and getattr(cause, "reply_code", 0) == INTERNAL_ERROR
        error = cause if isinstance(cause, BrokerError) else attempt_failed(self.address, cause, self._place)
        self.end()
        self._owner.session_lost(self, error, at_once)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._up = False
            self._setup_timer.cancel()
            if self._publisher_timer is not None:
                self._publisher_timer.cancel()
            self._canary.stop()
            self._consumer.stop_timers()
            if self._publisher is not None:
                self._publisher.fail_unconfirmed()

    def _half_gone(self, half: Half) -> None:
        self._halves.discard(half)
        if not self._halves:
            self._owner.session_gone(self)


def is_question(publication: Publication) -> bool:
    """For whoever can answer it, who is its only confirm."""
    return publication.requests and publication.done is None
