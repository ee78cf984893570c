"""An in-process message broker with the interface of the real one, for tests (yours too) and simulators.

    broker = MemoryBroker()
    link = MemoryLink(broker, topology)
    link.start(listener)

Faults of RabbitMQ and networks can be injected: `MemoryBroker.cut`, `crash`, `refuse`, `pause`,
`drop_next`, `delete_exchange`, `delete_queue`, `withhold_queue`.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from miros_cache_net import limits
from miros_cache_net.amqp.link import LinkUp, Publication
from miros_cache_net.amqp.mailbox import Mailbox, ThreadMailbox, Trampoline
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.amqp.memory_queues import MemoryMessage, MemoryQueue, MemoryQueues
from miros_cache_net.amqp.topology import OWN_QUEUE_PREFIX, Exchange, Queue, destination
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import BrokerError, BrokerUnreachable, ExchangeConflict, TopologyLost, Unroutable

__all__ = ["MemoryBroker", "MemoryLink", "MemoryMessage"]

#: Messages kept for `MemoryBroker.messages`.
_LOG_MESSAGES = 100_000


class MemoryBroker:
    """Thread-safe.  Each link is called on its own thread or, if `synchronous`, on the thread that caused the call
    (never from within another call), so that a simulator needs no threads.

    TTLs use `clock`.  A link that is down comes back as soon as nothing keeps it down.
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
        self._unacked: dict[MemoryLink, list[tuple[str, MemoryMessage]]] = {}  # of links with `late_acks`
        self._names = itertools.count(1)
        self._log: deque[MemoryMessage] = deque(maxlen=_LOG_MESSAGES)

    # --- for tests --------------------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[MemoryMessage, ...]:
        """The latest messages that the broker accepted, dropped ones included, oldest first."""
        with self._lock:
            return tuple(self._log)

    def consumers(self, queue: str) -> int:
        """How many links consume `queue`; 0 if there is no such queue."""
        with self._lock:
            return len(self._state.queues[queue].consumers) if queue in self._state.queues else 0

    def cut(self, link: MemoryLink) -> None:
        """Cut one link's network, until `restore`."""
        with self._changed():
            self._cut.add(link)
            self._lose(link, BrokerUnreachable("the link was cut: restore it"))

    def restore(self, link: MemoryLink) -> None:
        with self._changed():
            self._cut.discard(link)

    def crash(self) -> None:
        """Act like a killed broker: all links and messages are lost; down until `restart`."""
        with self._changed():
            self._crashed = True
            for link in self._links:
                self._lose(link, BrokerUnreachable("the broker crashed: restart it"))
            self._state.restart()

    def restart(self) -> None:
        with self._changed():
            self._crashed = False

    def refuse(self, error: BrokerError | None) -> None:
        """Answer every attempt to connect with `error`; None: accept them again.  Links that are up stay up."""
        with self._changed():
            self._refusal = error

    def pause(self) -> None:
        """Hold publications, neither delivered nor confirmed, until `resume`."""
        with self._changed():
            self._paused = True

    def resume(self) -> None:
        with self._changed():
            self._paused = False
            held, self._held = self._held, []
            for link, publication in held:
                self._accept(link, publication)

    def drop_next(self, count: int) -> None:
        """Confirm the next `count` publications without delivering them."""
        with self._lock:
            self._drop = count

    def declare_exchange(self, name: str, exchange_type: str, durable: bool = True) -> None:
        """Declare an exchange as another program would; links that declare it differently are refused."""
        with self._lock:
            self._state.exchanges[name] = Exchange(name, exchange_type, durable)

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange under its links; those whose canary uses it notice and redeclare it."""
        with self._changed():
            self._state.delete_exchange(name)
            for link in self._links:
                if name == link.topology.canary_exchange:
                    self._lose(link, TopologyLost("the exchange was deleted: it is declared again"))

    def delete_queue(self, name: str) -> None:
        """Delete a queue under its consumers, which redeclare it; a link that loses its own queue goes down."""
        with self._changed():
            queue = self._state.queues.pop(name, None)
            if queue is None:
                return
            if not name.startswith(OWN_QUEUE_PREFIX):
                queue.messages.clear()
                self._state.queues[name] = queue
                return
            for link in list(queue.consumers):
                self._lose(link, TopologyLost("a queue was deleted: it is declared again"))

    def withhold_queue(self, name: str) -> None:
        """Make the shared queue `name` unavailable until `grant_queue`, as if its home node were down."""
        with self._changed():
            self._withheld.add(name)
            self._state.queues.pop(name, None)

    def grant_queue(self, name: str) -> None:
        with self._changed():
            self._withheld.discard(name)
            for link in self._links:
                if link.is_up:
                    self._consume_requests(link)

    # --- for links --------------------------------------------------------------------------------------

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
        """False if the link is not attached (any more): nothing was done."""
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
            name = link.topology.lease or link.token
            free = link.is_up and name not in self._leases
            if free:
                self._leases[name] = link
            return free

    def _release_lease(self, link: MemoryLink) -> None:
        with self._changed():
            self._end_lease(link)

    def _return(self, queue: str, message: MemoryMessage) -> None:
        """Requeue a request whose consumer went down before processing it."""
        with self._changed():
            if queue in self._state.queues:
                self._state.queues[queue].messages.appendleft(message)

    def _taken(self, link: MemoryLink, message: MemoryMessage) -> None:
        """Acknowledge a request that was delivered to `link`, which has not lost it since."""
        with self._lock:
            unacked = self._unacked.get(link, [])
            unacked[:] = [each for each in unacked if each[1] is not message]

    # --- with the lock held -------------------------------------------------------------------------------

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """Hold the lock, then apply the consequences of the change."""
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
            # A link drops its own broadcasts.
            if message.sender != consumer.token or not message.exchange:
                if consumer.topology.late_acks and not queue.name.startswith(OWN_QUEUE_PREFIX):
                    self._unacked.setdefault(consumer, []).append((queue.name, message))
                consumer.deliver(queue.name, message)

    def _try_connect(self, link: MemoryLink) -> None:
        error = self._why_not(link)
        if error is not None:
            link.down(error)
            return
        for exchange in link.topology.exchanges:
            self._state.exchanges.setdefault(exchange.name, exchange)
        requests = self._requests(link.topology.requests)
        servers = None if requests is None else len(requests.consumers)
        link.up(LinkUp(self._own_queue(link), servers, "memory broker", "127.0.0.1"))
        self._consume_requests(link)

    def _own_queue(self, link: MemoryLink) -> str:
        if link.topology.own_queue is None:
            return ""
        own = self._state.declare(link.topology.own_queue, f"{OWN_QUEUE_PREFIX}{next(self._names)}")
        own.consumers.append(link)
        return own.name

    def _why_not(self, link: MemoryLink) -> BrokerError | None:
        if link in self._cut or self._crashed:
            return BrokerUnreachable("the broker is not there: restart it, or restore the link")
        if self._refusal is not None:
            return self._refusal
        for wanted in link.topology.exchanges:
            if self._state.exchanges.get(wanted.name, wanted) != wanted:
                return ExchangeConflict(f"exchange {wanted.name!r} has another type or durability: delete it")
        return None

    def _requests(self, wanted: Queue | None) -> MemoryQueue | None:
        return None if wanted is None or wanted.name in self._withheld else self._state.declare(wanted)

    def _consume_requests(self, link: MemoryLink) -> None:
        queue = self._requests(link.topology.requests)
        if queue is None:
            return
        if link.serves and link not in queue.consumers:
            queue.consumers.append(link)
        elif not link.serves and link in queue.consumers:
            queue.consumers.remove(link)

    def _end_lease(self, link: MemoryLink) -> None:
        name = link.topology.lease or link.token
        if self._leases.get(name) is link:
            del self._leases[name]

    def _lose(self, link: MemoryLink, error: BrokerError | None) -> None:
        """Drop the link's exclusive queues and unconfirmed publications; tell it why, unless it left by itself."""
        self._end_lease(link)
        for name, message in reversed(self._unacked.pop(link, [])):
            if name in self._state.queues:
                self._state.queues[name].messages.appendleft(message)
        for queue in list(self._state.queues.values()):
            if link in queue.consumers:
                queue.consumers.remove(link)
                if queue.name.startswith(OWN_QUEUE_PREFIX):
                    del self._state.queues[queue.name]
        for held in [held for held in self._held if held[0] is link]:
            self._held.remove(held)
            link.settle(held[1], False)
        if error is not None and link.is_up:
            link.down(error)
        link.is_up = False

    def _accept(self, link: MemoryLink, publication: Publication) -> None:
        if publication.requests and self._requests(link.topology.requests) is None:
            link.settle(publication, False)
            return
        exchange, key = destination(link.topology, publication)
        if exchange and exchange not in self._state.exchanges:
            link.settle(publication, False)
            self._lose(link, TopologyLost(f"exchange {exchange!r} was deleted: it is declared again"))
            return
        ttl_s = publication.ttl_s
        message = MemoryMessage(
            exchange,
            key,
            publication.body,
            link.token,
            link.own_queue if publication.reply_here else "",
            publication.key_id,
            None if ttl_s is None else self._clock.monotonic_s() + ttl_s,
            publication.message_id,
        )
        self._log.append(message)
        if self._drop > 0:
            self._drop -= 1
        elif not self._state.route(message, self._clock.monotonic_s()) and publication.mandatory:
            link.refuse(publication, Unroutable(f"no queue at exchange {exchange!r} takes {key!r}"))
            return
        link.settle(publication, True)
