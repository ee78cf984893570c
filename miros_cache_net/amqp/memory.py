"""A message broker inside one process, with the interface of the real one: for tests, yours included, and simulators.

    broker = MemoryBroker()
    link = MemoryLink(broker, Place("miros.cache.exchange", "fleet", "lan"))
    link.start(listener)

What RabbitMQ and networks do to a link can be done here on purpose: `MemoryBroker.cut`, `crash`, `refuse`, `pause`,
`drop_next`, `delete_exchange`, `delete_queue`, `withhold_requests`.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from miros_cache_net import limits
from miros_cache_net.amqp import topology
from miros_cache_net.amqp.link import LinkUp, Place, Publication
from miros_cache_net.amqp.mailbox import Mailbox, ThreadMailbox, Trampoline
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.amqp.memory_queues import MemoryMessage, MemoryQueue, MemoryQueues
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import BrokerError, BrokerUnreachable, ExchangeConflict, TopologyLost

__all__ = ["MemoryBroker", "MemoryLink", "MemoryMessage"]

#: Messages kept for `MemoryBroker.messages`.
_LOG_MESSAGES = 100_000


class MemoryBroker:
    """Thread-safe.  Links are called on threads of their own, or, `synchronous`, on the thread that caused the call
    (never one from within another's call), so that a single-threaded simulator has no threads at all.

    Times to live are judged by `clock`.  A link that is down comes back as soon as nothing keeps it down.
    """

    def __init__(self, *, synchronous: bool = False, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._trampoline = Trampoline() if synchronous else None
        self._state = MemoryQueues()
        self._links: list[MemoryLink] = []
        self._cut: set[MemoryLink] = set()
        self._refusal: BrokerError | None = None
        self._crashed = False
        self._paused = False
        self._held: list[tuple[MemoryLink, Publication]] = []
        self._drop = 0
        self._withheld: set[str] = set()
        self._leases: dict[str, MemoryLink] = {}
        self._names = itertools.count(1)
        self._log: deque[MemoryMessage] = deque(maxlen=_LOG_MESSAGES)

    # --- what tests look at and do --------------------------------------------------------------------

    @property
    def messages(self) -> tuple[MemoryMessage, ...]:
        """Every message that the broker took, oldest first; dropped ones too."""
        with self._lock:
            return tuple(self._log)

    def consumers(self, queue: str) -> int:
        """How many links consume `queue`; 0 too if there is none of that name."""
        with self._lock:
            return len(self._state.queues[queue].consumers) if queue in self._state.queues else 0

    def cut(self, link: MemoryLink) -> None:
        """Take the network from one link, until `restore`."""
        with self._changed():
            self._cut.add(link)
            self._lose(link, BrokerUnreachable("the link was cut: restore it"))

    def restore(self, link: MemoryLink) -> None:
        with self._changed():
            self._cut.discard(link)

    def crash(self) -> None:
        """End as a killed broker does: all links are lost, all messages too; until `restart`."""
        with self._changed():
            self._crashed = True
            for link in self._links:
                self._lose(link, BrokerUnreachable("the broker crashed: restart it"))
            self._state.restart()

    def restart(self) -> None:
        with self._changed():
            self._crashed = False

    def refuse(self, error: BrokerError | None) -> None:
        """Answer every attempt to connect with `error`; None: let them in again.  Standing links stay."""
        with self._changed():
            self._refusal = error

    def pause(self) -> None:
        """Keep publications, neither delivered nor confirmed, until `resume`."""
        with self._changed():
            self._paused = True

    def resume(self) -> None:
        with self._changed():
            self._paused = False
            held, self._held = self._held, []
            for link, publication in held:
                self._accept(link, publication)

    def drop_next(self, count: int) -> None:
        """Confirm the next `count` publications and deliver them to nobody."""
        with self._lock:
            self._drop = count

    def declare_exchange(self, name: str, exchange_type: str) -> None:
        """Make an exchange as some other program would; another type than "topic" keeps links out."""
        with self._lock:
            self._state.exchanges[name] = exchange_type

    def delete_exchange(self, name: str) -> None:
        """Delete it under its links; they notice (the real ones by their canary) and declare it again."""
        with self._changed():
            self._state.delete_exchange(name)
            for link in self._links:
                if link.place.exchange == name:
                    self._lose(link, TopologyLost("the exchange was deleted: it is declared again"))

    def delete_queue(self, name: str) -> None:
        """Delete it under its consumers, who declare it again; a link whose own queue it was is lost."""
        with self._changed():
            queue = self._state.queues.pop(name, None)
            if queue is None:
                return
            if not name.startswith(topology.OWN_QUEUE_PREFIX):
                self._state.declare(name).consumers = queue.consumers
                return
            for link in list(queue.consumers):
                self._lose(link, TopologyLost("a queue was deleted: it is declared again"))

    def withhold_requests(self, place: Place) -> None:
        """Let nobody have the request queue of `place` until `grant_requests`, as when its home is down."""
        with self._changed():
            name = topology.request_queue_name(place)
            self._withheld.add(name)
            self._state.queues.pop(name, None)

    def grant_requests(self, place: Place) -> None:
        with self._changed():
            self._withheld.discard(topology.request_queue_name(place))
            for link in self._links:
                if link.is_up and link.place == place:
                    self._consume_requests(link)

    # --- what links ask ---------------------------------------------------------------------------------

    def _mailbox(self, name: str) -> Mailbox:
        return self._trampoline if self._trampoline is not None else ThreadMailbox(name)

    def _attach(self, link: MemoryLink) -> None:
        with self._changed():
            self._links.append(link)

    def _detach(self, link: MemoryLink) -> None:
        with self._changed():
            self._lose(link, None)
            self._links.remove(link)

    def _publish(self, link: MemoryLink, publication: Publication) -> bool:
        """False: the link is not attached (any more), nothing was done."""
        with self._changed():
            if link not in self._links:
                return False
            if not link.is_up:
                link.settle(publication, False)
            elif not self._paused:
                self._accept(link, publication)
            elif sum(held[0] is link for held in self._held) < limits.PUBLISH_BACKLOG:
                self._held.append((link, publication))
            else:
                link.settle(publication, False)
            return True

    def _serve(self, link: MemoryLink) -> None:
        with self._changed():
            if link.is_up:
                self._consume_requests(link)

    def _acquire_lease(self, link: MemoryLink) -> bool:
        with self._changed():
            name = topology.lease_queue_name(link.place)
            free = link.is_up and name not in self._leases
            if free:
                self._leases[name] = link
            return free

    def _release_lease(self, link: MemoryLink) -> None:
        with self._changed():
            self._end_lease(link)

    def _return(self, queue: str, message: MemoryMessage) -> None:
        """A request that its consumer lost before it looked at it goes to the next."""
        with self._changed():
            if queue not in self._withheld:
                self._state.declare(queue).messages.appendleft(message)

    # --- with the lock held -------------------------------------------------------------------------------

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """Have the lock; then see to what follows from the change."""
        with self._lock:
            yield
            self._settle_down()
        if self._trampoline is not None:
            self._trampoline.run()

    def _settle_down(self) -> None:
        for link in self._links:
            if not link.is_up and not link.given_up:
                self._try_connect(link)
        for consumer, queue, message in self._state.take(self._clock.monotonic_s()):
            # A broadcast comes back to its sender too, who drops it.
            if message.sender != consumer.token or not message.exchange:
                consumer.deliver(queue.name, message)

    def _try_connect(self, link: MemoryLink) -> None:
        error = self._why_not(link)
        if error is not None:
            link.down(error)
            return
        exchange = link.place.exchange
        self._state.exchanges.setdefault(exchange, topology.EXCHANGE_TYPE)
        requests = self._requests(link.place)
        own = self._state.declare(f"{topology.OWN_QUEUE_PREFIX}{next(self._names)}")
        own.bindings.add((exchange, topology.binding_key(link.place)))
        own.consumers.append(link)
        servers = None if requests is None else len(requests.consumers)
        link.up(LinkUp(own.name, servers, "memory broker"))
        self._consume_requests(link)

    def _why_not(self, link: MemoryLink) -> BrokerError | None:
        if link in self._cut or self._crashed:
            return BrokerUnreachable("the broker is not there: restart it, or restore the link")
        if self._refusal is not None:
            return self._refusal
        kind = self._state.exchanges.get(link.place.exchange, topology.EXCHANGE_TYPE)
        if kind != topology.EXCHANGE_TYPE:
            return ExchangeConflict(f"exchange {link.place.exchange!r} is a {kind} exchange: delete it or name another")
        return None

    def _requests(self, place: Place) -> MemoryQueue | None:
        name = topology.request_queue_name(place)
        return None if name in self._withheld else self._state.declare(name)

    def _consume_requests(self, link: MemoryLink) -> None:
        queue = self._requests(link.place)
        if queue is None:
            return
        if link.serves and link not in queue.consumers:
            queue.consumers.append(link)
        elif not link.serves and link in queue.consumers:
            queue.consumers.remove(link)

    def _end_lease(self, link: MemoryLink) -> None:
        name = topology.lease_queue_name(link.place)
        if self._leases.get(name) is link:
            del self._leases[name]

    def _lose(self, link: MemoryLink, error: BrokerError | None) -> None:
        """Its exclusive queues go, its unconfirmed publications are lost; it is told why, unless it left itself."""
        self._end_lease(link)
        for queue in list(self._state.queues.values()):
            if link in queue.consumers:
                queue.consumers.remove(link)
                if queue.name.startswith(topology.OWN_QUEUE_PREFIX):
                    del self._state.queues[queue.name]
        for held in [held for held in self._held if held[0] is link]:
            self._held.remove(held)
            link.settle(held[1], False)
        if error is not None and link.is_up:
            link.down(error)
        link.is_up = False

    def _accept(self, link: MemoryLink, publication: Publication) -> None:
        if publication.requests and self._requests(link.place) is None:
            link.settle(publication, False)
            return
        exchange, key = topology.destination(link.place, publication)
        ttl_s = publication.ttl_s
        message = MemoryMessage(
            exchange,
            key,
            publication.body,
            link.token,
            link.own_queue if publication.reply_here else "",
            publication.key_id,
            None if ttl_s is None else self._clock.monotonic_s() + ttl_s,
        )
        self._log.append(message)
        if self._drop > 0:
            self._drop -= 1
        else:
            self._state.route(message)
        link.settle(publication, True)
