"""A link to the in-memory broker."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from miros_cache_net.amqp.link import Delivery, LinkListener, LinkUp, Publication
from miros_cache_net.amqp.mailbox import Mailbox
from miros_cache_net.amqp.memory_queues import MemoryMessage
from miros_cache_net.amqp.topology import OWN_QUEUE_PREFIX, Topology, destination, is_server_named
from miros_cache_net.errors import BrokerError, MessageRefused

if TYPE_CHECKING:
    from miros_cache_net.amqp.memory import MemoryBroker

_STOP_S = 5.0
_tokens = itertools.count(1)


class MemoryLink:
    """A `Link` (see there for the contract) to a `MemoryBroker`.

    Before `start` and after `stop`, the ``done(False)`` of a publication is called on the calling thread.
    `topology`, `serves`, `is_up`, `given_up` and `token` are for the broker and for tests to look at.
    """

    def __init__(self, broker: MemoryBroker, topology: Topology, *, connection_name: str = "memory-link") -> None:
        self.topology = topology
        self.serves = False
        self.given_up = False
        self.own_queue = ""
        self.token = f"memory-{next(_tokens)}"
        self._broker = broker
        self._name = connection_name
        self._mailbox: Mailbox | None = None
        self._listener: LinkListener
        self._stopped = False
        # Counts connections: a delivery from an earlier one no longer counts.
        self._connection = 0
        self._told: type[BrokerError] | None = None
        self.is_up = False

    # --- Link -------------------------------------------------------------------------------------------

    def start(self, listener: LinkListener) -> None:
        if self._mailbox is not None or self._stopped:
            raise RuntimeError("a link can be started only once")
        self._listener = listener
        self._mailbox = self._broker._mailbox(self._name)
        self._broker._attach(self)

    def publish(self, publication: Publication) -> None:
        destination(self.topology, publication)
        if not self._broker._publish(self, publication) and publication.done is not None:
            publication.done(False)

    def serve_requests(self, serve: bool) -> None:
        self.serves = serve
        self._broker._serve(self)

    @property
    def silent_s(self) -> float | None:
        return 0.0 if self.is_up else None

    @property
    def alarm(self) -> str:
        return ""

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        if self._mailbox is None or self._stopped:
            done(False)
        else:
            self._post(done, self._broker._acquire_lease(self))

    def release_lease(self) -> None:
        self._broker._release_lease(self)

    def stop(self) -> None:
        mailbox, stopped, self._stopped = self._mailbox, self._stopped, True
        if mailbox is not None and not stopped:
            self._broker._detach(self)
            mailbox.close(_STOP_S)

    # --- called by the broker, with its lock held -------------------------------------------------------

    def up(self, up: LinkUp) -> None:
        self._connection += 1
        self.is_up, self._told, self.own_queue = True, None, up.own_queue
        self._post(self._listener.link_up, up)

    def down(self, error: BrokerError) -> None:
        """The link is down because of `error`; tell the listener unless it already knows."""
        self.is_up = False
        self.given_up = error.fatal
        if type(error) is not self._told:
            self._told = type(error)
            self._post(self._listener.link_down, error)

    def deliver(self, queue: str, message: MemoryMessage) -> None:
        self._post(self._deliver, self._connection, queue, message)

    def settle(self, publication: Publication, taken: bool) -> None:
        if publication.done is not None:
            self._post(publication.done, taken)

    def refuse(self, publication: Publication, error: MessageRefused) -> None:
        if publication.refused is not None:
            self._post(publication.refused, error)
        self.settle(publication, False)

    # --- on the link's thread ---------------------------------------------------------------------------

    def _deliver(self, connection: int, queue: str, message: MemoryMessage) -> None:
        requested = not queue.startswith(OWN_QUEUE_PREFIX)
        if self.is_up and connection == self._connection:
            reply_to = message.reply_to if is_server_named(message.reply_to) else ""
            self._listener.delivered(
                Delivery(
                    message.body,
                    message.routing_key,
                    reply_to,
                    message.key_id,
                    from_requests=requested,
                    exchange=message.exchange,
                    message_id=message.message_id,
                    app_id=message.sender,
                    taken=partial(self._broker._taken, self, message),
                )
            )
        elif requested and not self.topology.late_acks:
            self._broker._return(queue, message)

    def _post(self, function: Callable[..., None], *args: object) -> None:
        if self._mailbox is not None:
            self._mailbox.post(function, *args)
