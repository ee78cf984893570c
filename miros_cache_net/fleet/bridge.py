"""A host's side of the link, put together: gate, inbox, replica and the link itself, without a thread of its own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Place, Publication
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document import Document, Stamp
from miros_cache_net.errors import BrokerError, CacheNetError, Reason
from miros_cache_net.fleet.clock_agreement import ClockAgreement
from miros_cache_net.fleet.fleet_lease import LEASE_TIMER, FleetLease
from miros_cache_net.fleet.inbox import Inbox
from miros_cache_net.fleet.links import LinkFactory
from miros_cache_net.fleet.publications import ANY_PEER, publication, routing_words
from miros_cache_net.fleet.questions import READ_TIMER, STATUS_TIMER, FleetQuestions
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.host.messages import LEASE
from miros_cache_net.host.questions import Question
from miros_cache_net.settings import Settings
from miros_cache_net.single_flight import discovery_lock_path
from miros_cache_net.wire import envelope
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import RingProvider

_OUT_OF_TIME: Final = "out of time"
_OTHER_KEY: Final = (
    "all that is heard of other hosts is in a key that this host does not hold: compare `miros-cache-net key list` "
    "on both, and bring over the key that is missing"
)
#: What nodes say to each other; anybody's command may ask.
_OF_NODES = frozenset({envelope.CACHE, envelope.DIGEST, envelope.ANSWER, envelope.UNCHANGED, envelope.STATUS})
_SERVE_AGAIN: Final = "serve again"


class BridgeOwner(Protocol):
    """The chart that owns a bridge.  All but `merge`, `report` and `status` only post to it."""

    def bridge_event(self, name: str, payload: Any = None) -> None:
        """Post the private event `name`; from any thread."""

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        """The same after `delay_s`; what is returned prevents it."""

    def merge(self, document: Document) -> None:
        """Have the file chart merge it."""

    def restamp(self, after: Stamp) -> None:
        """Have the file chart give all later stamps anew."""

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
        self.trouble = ""
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
            lambda: owner.bridge_event("replica_timer", _OUT_OF_TIME),
            self._on_key_refused,
        )
        self._node = node
        self._is_file_known = False
        self._agreement = ClockAgreement(clock)
        self._replica = Replica(
            self,
            Document.unwritten({}),
            clock,
            answer_timeout_s=settings.answer_timeout_s,
            digest_interval_s=settings.digest_interval_s,
            rng=rng,
        )
        self._questions = FleetQuestions(
            self,
            SYSTEM_CLOCK,
            answer_timeout_s=settings.answer_timeout_s,
            own_status=owner.status,
            rng=rng,
        )
        self._link: Link = link_factory(settings, place)
        self._lease = FleetLease(self, discovery_lock_path(file))

    def start(self) -> None:
        self._link.start(self, self._first_question)

    def stop(self) -> None:
        """End link and timers; bounded by `Link.stop`."""
        for cancel in self._timers.values():
            cancel()
        self._link.stop()
        self._lease.close()

    def counters(self) -> dict[str, int]:
        """Messages refused and received, by kind, and what became of the link; from any thread.

        ``links_made``, ``links_failed`` (lost, or not to be had for another reason than before), ``sendings_lost``
        (documents that the broker did not confirm; they are sent again), ``reported_<reason>``.
        """
        refused = {f"refused_{name}": number for name, number in sorted(self._gate.counters.items())}
        received = {f"received_{name}": number for name, number in sorted(self._inbox.counters.copy().items())}
        return refused | received | dict(sorted(self._counts.copy().items()))

    # --- what the owner passes on -------------------------------------------------------------------

    def is_linked(self, up: LinkUp) -> None:
        self._counts["links_made"] += 1
        self.broker, self.trouble = up.broker, ""
        self._hears_nodes = False
        self._replica.link_up(up.request_servers)
        self._questions.link_up()
        self._lease.link_up()

    def is_unlinked(self, error: BrokerError) -> None:
        self._counts["links_failed"] += 1
        self.broker, self.trouble = "", str(error)
        self._replica.link_down()
        self._questions.link_down(str(error))
        self._lease.link_down()

    def key_refused(self) -> None:
        """Something came that is closed with a key which this host does not hold."""
        # without a link there is a trouble that matters more
        if self.broker and not self._hears_nodes:
            self.trouble = _OTHER_KEY

    def take_messages(self) -> None:
        for message, reply_to in self._inbox.take_all():
            if self._gate.is_own(message):
                self._questions.came_back()
                continue
            if message.origin.node != self._node():
                self._agreement.heard(message)
            if message.kind in _OF_NODES:
                self._hears_nodes = True
                if self.trouble == _OTHER_KEY:
                    self.trouble = ""
            if message.kind == envelope.CHALLENGE:
                if reply_to:
                    self.send(envelope.CHALLENGE_ANSWER, message.body, reply_to)
            elif message.kind != envelope.STATUS_REQUEST:
                self._replica.received(message, reply_to)
                self._questions.received(message)
            elif reply_to:
                self.send(envelope.STATUS, self._owner.status(), reply_to)

    def publication_done(self, settled: tuple[int, bool]) -> None:
        """Which document it was, and whether the broker has taken it; only the last one is still waited for."""
        number, confirmed = settled
        self._counts["sendings_lost"] += not confirmed
        if number == self._documents_sent:
            self._replica.sent(confirmed)

    def timer_due(self, name: str) -> None:
        if name == _OUT_OF_TIME:
            if self._agreement.holds:
                return
            # one of the clocks is wrong, maybe ours: who asks is better served by another
            self._link.serve_requests(False)
            self.after(_SERVE_AGAIN, limits.REQUEST_AGE_S)
            return
        if name == _SERVE_AGAIN:
            self._link.serve_requests(self._replica.in_sync)
            return
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
        self._is_file_known = True

    @property
    def in_sync(self) -> bool:
        """This host has what the fleet has."""
        return self._replica.in_sync

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

    def _first_question(self) -> Publication | None:
        """Of a host that has nothing, once it has a name to ask in."""
        if not self._is_file_known or self._replica.document.is_written:
            return None
        return self._publication(envelope.CACHE_FILE_READ, None, ANY_PEER)

    # --- LeasePort --------------------------------------------------------------------------------------

    def acquire_lease(self, done: Callable[[bool], None]) -> None:
        self._link.acquire_lease(done)

    def release_lease(self) -> None:
        self._link.release_lease()

    def lease_event(self, name: str, held: bool) -> None:
        self._owner.bridge_event("lease_news", (name, held))

    # --- ReplicaPort ------------------------------------------------------------------------------------

    def send(self, kind: str, body: Any, to: str) -> None:
        to_publish = self._publication(kind, body, to)
        if to_publish is not None:
            self._link.publish(to_publish)

    def merge(self, document: Document) -> None:
        self._owner.merge(document)

    def restamp(self, after: Stamp) -> None:
        self._owner.restamp(after)

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

    def _publication(self, kind: str, body: Any, to: str) -> Publication | None:
        done = None
        if kind == envelope.CACHE:
            self._documents_sent += 1
            done = partial(self._done, self._documents_sent)
        try:
            return publication(self._gate, kind, body, to, answer_timeout_s=self._answer_timeout_s, done=done)
        except CacheNetError as error:
            self._owner.report(error.reason, f"{kind} cannot be sent: {error}")
            return None

    def _done(self, number: int, confirmed: bool) -> None:
        self._owner.bridge_event("publication_done", (number, confirmed))
