"""A host's side of the link, put together: gate, inbox, replica and the link itself, without a thread of its own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Place
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import BrokerError, CacheNetError, Reason
from miros_cache_net.fleet.fleet_lease import LEASE_TIMER, FleetLease
from miros_cache_net.fleet.inbox import Inbox
from miros_cache_net.fleet.links import LinkFactory
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.publications import ANY_PEER, Outgoing, outgoing, routing_words
from miros_cache_net.fleet.questions import READ_TIMER, STATUS_TIMER, FleetQuestions
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.host.messages import LEASE
from miros_cache_net.host.questions import Question
from miros_cache_net.settings import Settings
from miros_cache_net.single_flight import discovery_lock_path
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import RingProvider

_OTHER_KEY: Final = (
    "all that is heard of other hosts is in a key that this host does not hold: compare `miros-cache-net key list` "
    "on both, and bring over the key that is missing"
)


#: Instead of a document's number: a request to any peer.
_REQUEST: Final = 0


class BridgeOwner(Protocol):
    """The chart that owns a bridge.  All but `merge`, `report` and `status` only post to it."""

    def bridge_event(self, name: str, payload: Any = None) -> None:
        """Post the private event `name`; from any thread."""

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        """The same after `delay_s`; what is returned prevents it."""

    def merge(self, document: Document, node: str) -> None:
        """Have the file chart merge what `node` sent; ``merge_refused`` follows if it passes a cap."""

    def report(self, reason: Reason, message: str) -> None:
        """Publish ``CACHE_ERROR``."""

    def status(self) -> dict[str, Any]:
        """This node, for `status`."""


class Bridge:
    """One host's attachment to the fleet; used by its owner's thread, but for the `LinkListener` methods.

    Those run on the link's thread and post ``link_up``, ``link_down``, ``messages_waiting`` and ``key_refused``;
    ``publication_done``, ``replica_timer`` and ``lease_news`` follow.  The owner answers each with the method of that
    name.  ``joined`` tells it that this host is in step.  The link may be started before the file has been
    read: `local_changed` tells of the document, and `node` is asked for this host's name in stamps, not before
    `is_linked`.
    """

    def __init__(
        self,
        owner: BridgeOwner,
        settings: Settings,
        place: Place,
        *,
        file: Path,
        node: Callable[[], str],
        rings: RingProvider,
        clock: Clock,
        rng: random.Random,
        link_factory: LinkFactory,
    ) -> None:
        self._owner = owner
        self._answer_timeout_s = settings.answer_timeout_s
        self.broker = ""
        self._link_trouble = ""
        self._timers: dict[str, Callable[[], None]] = {}
        self._counts: Counter[str] = Counter()
        self._gate = Gate(
            rings,
            scope=place.scope,
            document=place.document,
            node=node,
            host=settings.node_name,
            key_words=routing_words(place),
            clock=clock,
            say=lambda error, line: owner.report(error.reason, line),
        )
        self._key_was_refused = False
        self._hears_nodes = False
        self._documents_sent = 0
        self._inbox = Inbox(
            self._gate,
            lambda: owner.bridge_event("messages_waiting"),
            self._on_key_refused,
        )
        self._node = node
        open_requests = OpenRequests()
        self._replica = Replica(
            self,
            Document.unwritten({}),
            clock,
            open_requests,
            answer_timeout_s=settings.answer_timeout_s,
            digest_interval_s=settings.digest_interval_s,
            rng=rng,
        )
        self._questions = FleetQuestions(
            self,
            SYSTEM_CLOCK,
            open_requests,
            answer_timeout_s=settings.answer_timeout_s,
            own_status=owner.status,
            rng=rng,
        )
        self._link: Link = link_factory(settings, place)
        self._lease = FleetLease(self, discovery_lock_path(file))
        self._handlers: dict[str, Callable[[Message, str], None]] = {
            kinds.CACHE: self._replica.received,
            kinds.CACHE_FILE_WRITE: self._replica.received,
            kinds.CACHE_FILE_READ: self._replica.received,
            kinds.DIGEST: self._replica.received,
            kinds.ANSWER: self._answered,
            kinds.UNCHANGED: self._replica.received,
            kinds.STATUS_REQUEST: self._tell_status,
            kinds.STATUS: self._questions.received,
            kinds.CHALLENGE: self._be_challenged,
            kinds.CHALLENGE_ANSWER: lambda message, reply_to: None,  # whoever asks such a thing is no node
        }

    def start(self) -> None:
        self._link.start(self)

    def stop(self) -> None:
        """End link and timers; bounded by `Link.stop`."""
        for cancel in self._timers.values():
            cancel()
        self._link.stop()
        self._lease.close()

    def counters(self) -> dict[str, int]:
        """Messages refused and received, by kind, and what became of the link; from any thread.

        ``links_made``, ``links_failed`` (lost, or not to be had for another reason than before), ``sendings_lost``
        (documents that the broker did not confirm; they are sent again), ``answers_refused`` (there were too many
        requests), ``reported_<reason>``.
        """
        refused = {f"refused_{name}": number for name, number in sorted(self._gate.counters.items())}
        received = {f"received_{name}": number for name, number in sorted(self._inbox.counters.copy().items())}
        own = self._counts.copy()
        own["answers_refused"] = self._replica.answers_refused
        return refused | received | dict(sorted(own.items()))

    # --- what the owner passes on -------------------------------------------------------------------

    def is_linked(self, up: LinkUp) -> None:
        self._counts["links_made"] += 1
        self.broker, self._link_trouble = up.broker, ""
        self._hears_nodes = False
        self._replica.link_up(up.request_servers)
        self._questions.link_up(up.request_servers)
        self._lease.link_up()

    def is_unlinked(self, error: BrokerError) -> None:
        self._counts["links_failed"] += 1
        self.broker, self._link_trouble = "", str(error)
        self._replica.link_down()
        self._questions.link_down(str(error))
        self._lease.link_down()

    def key_refused(self) -> None:
        """Something came that is closed with a key which this host does not hold."""
        # without a link there is a trouble that matters more
        if self.broker and not self._hears_nodes:
            self._link_trouble = _OTHER_KEY

    def take_messages(self) -> None:
        for message, reply_to in self._inbox.take_all():
            if self._gate.is_own(message):
                self._questions.came_back()
                continue
            if message.kind in kinds.OF_NODES:
                self._hears_nodes = True
                if self._link_trouble == _OTHER_KEY:
                    self._link_trouble = ""
            self._handlers[message.kind](message, reply_to)

    def publication_done(self, settled: tuple[int, bool]) -> None:
        """Which document it was, and whether the broker has taken it; only the last one is still waited for."""
        number, confirmed = settled
        if number == _REQUEST:
            if not confirmed:
                self._replica.request_lost()
                self._questions.request_lost()
            return
        self._counts["sendings_lost"] += not confirmed
        if number == self._documents_sent:
            self._replica.sent(confirmed)

    def timer_due(self, name: str) -> None:
        if name in (READ_TIMER, STATUS_TIMER):
            self._questions.timer(name)
        elif name == LEASE_TIMER:
            self._lease.timer()
        else:
            self._replica.timer(name)

    def ask(self, question: Question) -> None:
        if question.what == LEASE:
            self._lease.ask(question)
        else:
            self._questions.ask(question)

    def lease_news(self, name: str, held: bool) -> None:
        if name == "answered":
            self._lease.answered(held)
        else:
            self._lease.discovery_over()

    def local_changed(self, document: Document) -> None:
        self._replica.local_changed(document)

    def merge_refused(self, document: Document, node: str, held: Document) -> None:
        self._replica.merge_refused(document, node, held)

    @property
    def in_sync(self) -> bool:
        """This host takes part: it has been answered, or is alone."""
        return self._replica.in_sync

    @property
    def in_step(self) -> bool:
        """This host takes part, and has what the fleet has."""
        return self._replica.in_step

    @property
    def trouble(self) -> str:
        """What keeps this host from its fleet, "" if nothing does."""
        return self._link_trouble or self._replica.trouble

    # --- LinkListener: on the link's thread -----------------------------------------------------------

    def link_up(self, up: LinkUp) -> None:
        self._key_was_refused = False
        self._owner.bridge_event("link_up", up)

    def link_down(self, error: BrokerError) -> None:
        self._owner.bridge_event("link_down", error)

    def delivered(self, delivery: Delivery) -> None:
        self._inbox.put(delivery)

    def _on_key_refused(self) -> None:
        # once a link, because strangers may send any number
        if not self._key_was_refused:
            self._key_was_refused = True
            self._owner.bridge_event("key_refused")

    # --- LeasePort --------------------------------------------------------------------------------------

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        self._link.acquire_lease(done)

    def release_lease(self) -> None:
        self._link.release_lease()

    def lease_event(self, name: str, held: bool) -> None:
        self._owner.bridge_event("lease_news", (name, held))

    # --- ReplicaPort ------------------------------------------------------------------------------------

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str:
        made = self._outgoing(kind, body, to, answers)
        if made is None:
            return ""
        self._link.publish(made.publication)
        return made.message_id

    def merge(self, document: Document, node: str) -> None:
        self._owner.merge(document, node)

    def serve(self, serving: bool) -> None:
        self._link.serve_requests(serving)
        if serving:
            self._lease.in_step()
            self._owner.bridge_event("joined")

    def after(self, name: str, delay_s: float) -> None:
        if name in self._timers:
            self._timers[name]()
        self._timers[name] = self._owner.bridge_event_later("replica_timer", name, delay_s)

    def report(self, reason: Reason, message: str) -> None:
        self._counts[f"reported_{reason.value}"] += 1
        self._owner.report(reason, message)

    # --- helpers ----------------------------------------------------------------------------------------

    def _answered(self, message: Message, reply_to: str) -> None:
        # whoever asked for it, it is state
        self._replica.received(message, reply_to)
        self._questions.received(message, reply_to)

    def _tell_status(self, message: Message, reply_to: str) -> None:
        if reply_to:
            self.send(kinds.STATUS, self._owner.status(), reply_to, message.message_id)

    def _be_challenged(self, message: Message, reply_to: str) -> None:
        if reply_to:
            self.send(kinds.CHALLENGE_ANSWER, message.body, reply_to, message.message_id)

    def _outgoing(self, kind: str, body: Any, to: str, answers: str = "") -> Outgoing | None:
        done = None
        if kind == kinds.CACHE:
            self._documents_sent += 1
            done = partial(self._done, self._documents_sent)
        elif to == ANY_PEER:
            done = partial(self._done, _REQUEST)
        try:
            return outgoing(
                self._gate, kind, body, to, answer_timeout_s=self._answer_timeout_s, answers=answers, done=done
            )  # fmt: skip
        except CacheNetError as error:
            self._owner.report(error.reason, f"{kind} cannot be sent: {error}")
            return None

    def _done(self, number: int, confirmed: bool) -> None:
        self._owner.bridge_event("publication_done", (number, confirmed))
