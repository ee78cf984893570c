"""A host's side of the link: assembles gate, inbox, replica and the link itself; has no thread of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Publication
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import BrokerError, BrokerUnreachable, CacheNetError, MessageRefused, Reason, WireError
from miros_cache_net.fleet import node_events
from miros_cache_net.fleet.digest import Digest
from miros_cache_net.fleet.fleet_lease import FleetLease
from miros_cache_net.fleet.health import CANARY, CAPS, CLOCK, IN_STEP, LINK, UNDERSTOOD, Check, untroubled
from miros_cache_net.fleet.inbox import Inbox
from miros_cache_net.fleet.links import LinkFactory
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.place import Place
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY, Outgoing, outgoing, routing_words
from miros_cache_net.fleet.questions import FleetQuestions
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.fleet.standing import Standing
from miros_cache_net.fleet.traces import Traces
from miros_cache_net.fleet.write_lag import WriteLag
from miros_cache_net.host.messages import LEASE, STATUSES
from miros_cache_net.host.questions import Question
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.observe import families
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.single_flight import discovery_lock_path
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import RingProvider

#: A canary's timeout plus slack for a busy machine.
_CANARY_S: Final = 15.0
#: Stands for a request to any peer, where a document would have its number.
_REQUEST: Final = 0

_START_TIMER: Final = "start"
_WATCHED_TIMER: Final = "watched"
#: Back-off bounds for restarting a link that could not start.
_START_LEAST_S: Final = 0.5
_START_MOST_S: Final = 30.0


class BridgeOwner(Protocol):
    """The chart that owns a bridge."""

    def bridge_event(self, name: str, payload: Any = None) -> None:
        """Post the private event `name`, one of `node_events`; from any thread."""

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        """The same after `delay_s` seconds; returns a function that cancels it."""

    def merge(self, document: Document, node: str) -> None:
        """Have the file chart merge what `node` sent; ``merge_refused`` follows if the result exceeds a cap."""

    def held(self) -> Document | None:
        """The file's current document; None if it cannot be read."""

    def report(self, reason: Reason, message: str) -> None:
        """Publish ``CACHE_ERROR``."""

    def status(self) -> NodeStatus:
        """This node's entry for `status`."""

    def look_at_disk(self, done: Callable[[], None]) -> None:
        """Try the file's disk for the next `status`; `done` is called then, at once or on another thread."""


class Bridge:
    """One host's attachment to the fleet.  Used on its owner's thread, except for the `LinkListener` methods.

    Those run on the link's thread and only post events, as do timers and everything else off the owner's thread; the
    owner passes the events to `handle`.  The exception is ``joined``, which the owner keeps: this host takes part now.
    The link may start before the file has been read: `local_changed` brings the document, and `node` (this host's name
    in stamps) is not called before ``link_up``.

    replica   this host's part in keeping the document
    lag       how long the last change took to get here
    registry  counts what comes, goes and fails
    traces    this host's steps, for those who watch
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
        registry: Registry,
    ) -> None:
        self._owner, self._place = owner, place
        self._answer_timeout_s = settings.answer_timeout_s
        self.broker = ""
        self._link_trouble = ""
        self._start_delay_s = 0.0
        self._refused_by_broker: dict[str, str] = {}
        self._cancel: dict[str, Callable[[], None]] = {}
        self._links_made, self._links_failed, self._sendings_lost = map(
            registry.counter, (families.LINKS_MADE, families.LINKS_FAILED, families.SENDINGS_LOST)
        )
        self._sent, self._reported = registry.labelled(families.SENT), registry.labelled(families.REPORTED)
        self._gate = Gate(
            rings,
            scope=place.scope,
            document=place.document,
            node=node,
            host=settings.node_name,
            key_words=routing_words(place),
            clock=clock,
            say=lambda error, line: owner.report(error.reason, line),
            counted=registry.labelled(families.REFUSED),
        )
        self._documents_sent = 0
        self._status_asks: dict[tuple[str, str], Callable[[], None]] = {}
        self._change_sent_ms: int | None = None
        self.lag = WriteLag(clock)
        self._inbox = Inbox(
            self._gate,
            lambda: owner.bridge_event(node_events.MESSAGES_WAITING),
            self._on_not_understood,
            registry.labelled(families.RECEIVED),
        )
        self._node, self._host = node, settings.node_name
        self.on_mesh: Callable[[Any], None] = lambda body: None
        """Called with the body of each message of kind `kinds.MESH`, on the owner's thread."""
        self._open = open_requests = OpenRequests()
        self.replica = Replica(
            self,
            Document.unwritten({}),
            clock,
            open_requests,
            answer_timeout_s=settings.answer_timeout_s,
            digest_interval_s=settings.digest_interval_s,
            rng=rng,
            answers_refused=registry.counter(families.ANSWERS_REFUSED),
        )
        self._questions = FleetQuestions(
            self,
            SYSTEM_CLOCK,
            open_requests,
            answer_timeout_s=settings.answer_timeout_s,
            own_status=owner.status,
            wall_ms=clock.wall_ms,
            rng=rng,
        )
        self._standing = Standing(
            self,
            clock,
            digest_interval_s=settings.digest_interval_s,
            answer_timeout_s=settings.answer_timeout_s,
            rng=rng,
        )
        self.traces = Traces(self._send_trace, self._watched_changed, registry)
        self._silent_most_s = settings.digest_interval_s + _CANARY_S
        self._link: Link = link_factory(settings, place)
        self._lease = FleetLease(
            self._link, discovery_lock_path(file), after=self.after, post=owner.bridge_event
        )  # fmt: skip
        self._result: Document | None = None  # what the last discovery left in the file, once read
        self._timers = self.replica.timers | self._questions.timers | self._lease.timers | self._standing.timers
        self._timers[_START_TIMER] = self.start
        self._timers[_WATCHED_TIMER] = lambda: None  # the owner tells the followers after each event
        self._on: dict[str, Callable[[Any], None]] = {
            node_events.LINK_UP: self._linked,
            node_events.LINK_DOWN: self._unlinked,
            node_events.MESSAGES_WAITING: lambda _: self._take_messages(),
            node_events.NOT_UNDERSTOOD: self._standing.refused,
            node_events.PUBLICATION_DONE: lambda settled: self._settled(*settled),
            node_events.PUBLICATION_REFUSED: lambda refused: self._broker_refused(*refused),
            node_events.LEASE_ANSWERED: self._lease.answered,
            node_events.DISCOVERY_OVER: lambda _: self._discovery_over(),
            node_events.TIMER_DUE: lambda name: self._timers[name](),
            node_events.MERGE_REFUSED: lambda refused: self._merge_refused(*refused),
            node_events.FLEET_ASKED: self._ask,
            node_events.STATUS_DUE: lambda asked: self._tell_status(*asked),
        }
        self._handlers: dict[str, Callable[[Message, str], None]] = {
            kinds.CACHE: self.replica.received,
            kinds.CACHE_FILE_WRITE: self.replica.received,
            kinds.CACHE_FILE_READ: self.replica.received,
            kinds.DIGEST: self.replica.received,
            kinds.ANSWER: self._answered,
            kinds.UNCHANGED: self.replica.received,
            kinds.STATUS_REQUEST: self._status_asked,
            kinds.STATUS: self._questions.received,
            kinds.TRACE_REQUEST: self._watch,
            kinds.TRACE: lambda message, reply_to: None,  # only commands watch
            kinds.CHALLENGE: self._be_challenged,
            kinds.CHALLENGE_ANSWER: lambda message, reply_to: None,  # no node asks for one
            kinds.MESH: lambda message, reply_to: self.on_mesh(message.body),
        }

    def start(self) -> None:
        """Begin to connect.  If the system denies a descriptor or thread, report that once and retry with back-off."""
        try:
            self._link.start(self)
        except OSError as error:
            if not self._start_delay_s:
                self.link_down(
                    BrokerUnreachable(
                        f"this process cannot open a link ({error.strerror or error}): close files or end threads, or "
                        "raise its limits (ulimit -n, ulimit -u); it tries again"
                    )
                )
            self._start_delay_s = min(2 * self._start_delay_s or _START_LEAST_S, _START_MOST_S)
            self.after(_START_TIMER, self._start_delay_s)

    def stop(self) -> None:
        """End the link and all timers; takes no longer than `Link.stop`."""
        for cancel in self._cancel.values():
            cancel()
        self.traces.close()
        self._link.stop()
        self._lease.close()

    def handle(self, name: str, payload: Any) -> None:
        """Process the private event `name`."""
        self._on[name](payload)
        self._look_at_result()

    def local_changed(self, document: Document) -> None:
        """The file holds `document` now, whoever wrote it."""
        if self._lease.awaits_result and self._result is None:
            self._result = document
        self.replica.local_changed(document)
        self.lag.stored(document)
        self._look_at_result()

    @property
    def trouble(self) -> str:
        """What keeps this host out of step with its fleet; "" if nothing does."""
        return self._link_trouble or self._alarm or self._not_sent or self._standing.unheard or self.replica.trouble

    @property
    def _not_sent(self) -> str:
        return next(iter(self._refused_by_broker.values()), "")

    def checks(self) -> list[Check]:
        """The facts about this host and its fleet."""
        linked = self._link_trouble or "no link to the broker yet"
        return [
            Check(LINK, bool(self.broker), self.broker or linked),
            untroubled(CANARY, self._silence),
            untroubled(IN_STEP, "" if self._takes_part else "the fleet has not answered yet"),
            untroubled(UNDERSTOOD, self._standing.unheard),
            untroubled(CLOCK, self._standing.clock_trouble),
            untroubled(CAPS, self.replica.apart or self._not_sent),
        ]

    @property
    def in_touch(self) -> bool:
        """This host hears the fleet and is heard by it; call on the owner's thread."""
        return self._takes_part and not self._silence

    @property
    def is_in_sync(self) -> bool:
        """Whether this host takes part: it sends its document, and answers."""
        return self.replica.in_sync

    def has_spread(self, document: Document) -> bool:
        """Whether the fleet has all of `document`, or cannot get it over this link."""
        return self.replica.has_spread(document)

    @property
    def _takes_part(self) -> bool:
        # a host that a cap keeps apart is still in touch
        return self.replica.in_step or bool(self.replica.apart)

    @property
    def _alarm(self) -> str:
        alarm = self._link.alarm
        return alarm and f"{self.broker or 'the broker'} accepts no messages: {alarm}; free memory or disk there"

    @property
    def _silence(self) -> str:
        if alarm := self._alarm:
            return alarm
        silent_s = self._link.silent_s
        if silent_s is None or silent_s <= self._silent_most_s:
            return ""
        return f"nothing has come through the exchange for {silent_s:.0f} s: the broker has an alarm, or hangs"

    # --- event handlers, on the owner's thread ---------------------------------------------------------

    def _linked(self, up: LinkUp) -> None:
        self._links_made.add()
        self.broker, self._link_trouble = up.broker, ""
        self._refused_by_broker.clear()
        self._standing.link_up()
        self.replica.link_up(up.request_servers)
        self._questions.link_up(up.request_servers)
        self._lease.link_up()

    def _unlinked(self, error: BrokerError) -> None:
        self._links_failed.add()
        self.broker, self._link_trouble = "", str(error)
        self._standing.link_down()
        self.replica.link_down()
        self._questions.link_down(str(error))
        self._lease.link_down()

    def _take_messages(self) -> None:
        for message, reply_to in self._inbox.take_all():
            if self._gate.is_own(message):
                self._questions.came_back()
                continue
            if message.kind in kinds.OF_NODES:
                self._standing.heard(message, self._is_answer(message))
            self._change_sent_ms = message.sent_ms if message.kind == kinds.CACHE else None
            self._handlers[message.kind](message, reply_to)

    def _settled(self, number: int, confirmed: bool) -> None:
        """The broker has confirmed or lost document `number`; only the latest one still matters."""
        if number == _REQUEST:
            if not confirmed:
                self.replica.request_lost()
                self._questions.request_lost()
            return
        if not confirmed:
            self._sendings_lost.add()
        else:
            for kind in (kinds.CACHE, kinds.ANSWER):
                self._refused_by_broker.pop(kind, None)
        if number == self._documents_sent:
            self.replica.sent(confirmed)

    def _broker_refused(self, kind: str, error: MessageRefused) -> None:
        """Reported once, however many messages are refused."""
        if not self._refused_by_broker:
            self.report(error.reason, f"{kind} cannot be sent: {error}")
        self._refused_by_broker[kind] = str(error)
        if kind == kinds.CACHE:
            self.replica.hold_back()

    def _ask(self, question: Question) -> None:
        if question.what == STATUSES:  # by the time the others have answered, it is known for this host too
            self._owner.look_at_disk(lambda: None)
        (self._lease if question.what == LEASE else self._questions).ask(question)

    def _merge_refused(self, document: Document, node: str) -> None:
        held = self._owner.held()
        if held is not None:
            self.replica.merge_refused(document, node, held)

    def _discovery_over(self) -> None:
        # the result is in the file, but the lock may be faster than the chart's own report of it
        self._result = self._owner.held()
        if self._result is not None:
            self.replica.local_changed(self._result)
        self._lease.discovery_over()

    def _look_at_result(self) -> None:
        if self._lease.awaits_result and self._result is not None and self.replica.has_spread(self._result):
            self._lease.result_spread()

    # --- LinkListener: on the link's thread -----------------------------------------------------------

    def link_up(self, up: LinkUp) -> None:
        self._owner.bridge_event(node_events.LINK_UP, up)

    def link_down(self, error: BrokerError) -> None:
        self._owner.bridge_event(node_events.LINK_DOWN, error)

    def delivered(self, delivery: Delivery) -> None:
        self._inbox.put(delivery)

    def _on_not_understood(self, error: WireError) -> None:
        # strangers may send any number of these: do not let them flood the owner's queue
        if self._standing.takes_doubts:
            self._standing.takes_doubts = False
            self._owner.bridge_event(node_events.NOT_UNDERSTOOD, error)

    # --- ReplicaPort, QuestionPort, StandingPort ----------------------------------------------------------------------

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str:
        made = self._outgoing(kind, body, to, answers)
        if made is None:
            return ""
        self._sent.add(kind)
        self._link.publish(made.publication)
        return made.message_id

    def merge(self, document: Document, node: str) -> None:
        if self._change_sent_ms is not None:
            self.lag.sent(document, self._change_sent_ms, node)
        self._owner.merge(document, node)

    def ask_all(self) -> str:
        return self.send(kinds.DIGEST, Digest.of(self.replica.document, joining=True).to_body(), EVERYBODY)

    def serve(self, serving: bool) -> None:
        self._link.serve_requests(serving)
        if serving:
            self._lease.in_step()
            self._owner.bridge_event(node_events.JOINED)

    def after(self, name: str, delay_s: float) -> None:
        if name in self._cancel:
            self._cancel[name]()
        self._cancel[name] = self._owner.bridge_event_later(node_events.TIMER_DUE, name, delay_s)

    def report(self, reason: Reason, message: str) -> None:
        self._reported.add(reason.value)
        self._owner.report(reason, message)

    # --- helpers ----------------------------------------------------------------------------------------

    def _is_answer(self, message: Message) -> bool:
        """Whether the message names a request that this host sent over this link."""
        digest = Digest.from_body(message.body) if message.kind == kinds.DIGEST else None
        named = (message.answers,) if digest is None else digest.answers
        question = self._standing.question
        return any(self._open.about(each, object) is not None or (each and each == question) for each in named)

    def _answered(self, message: Message, reply_to: str) -> None:
        # it is state, so the replica takes it no matter which of the two asked
        self.replica.received(message, reply_to)
        self._questions.received(message, reply_to)

    def _status_asked(self, message: Message, reply_to: str) -> None:
        asked = (reply_to, message.message_id)
        if not reply_to or asked in self._status_asks:
            return
        if len(self._status_asks) >= limits.STATUS_WAITING:
            self.send(kinds.STATUS, self._owner.status(), *asked)
            return
        late = self._owner.bridge_event_later(node_events.STATUS_DUE, asked, limits.STATUS_DISK_S)
        self._status_asks[asked] = late
        self._owner.look_at_disk(lambda: self._owner.bridge_event(node_events.STATUS_DUE, asked))

    def _tell_status(self, reply_to: str, message_id: str) -> None:
        cancel = self._status_asks.pop((reply_to, message_id), None)
        if cancel is not None:
            cancel()
            self.send(kinds.STATUS, self._owner.status(), reply_to, message_id)

    def _watch(self, message: Message, reply_to: str) -> None:
        names = message.body.get("nodes") if isinstance(message.body, Mapping) else None
        is_meant = not isinstance(names, list | tuple) or not names or self._node() in names or self._host in names
        if reply_to and is_meant:
            self.traces.asked(message, reply_to)

    def _send_trace(
        self, body: Any, to: str, answers: str, refused: Callable[[MessageRefused], None], lost: Callable[[], None]
    ) -> None:
        """On any thread.  A watcher whose queue is gone has its message returned."""
        sealed = self._gate.seal(kinds.TRACE, body, answers=answers)
        self._sent.add(kinds.TRACE)
        self._link.publish(
            Publication(
                sealed.body,
                queue=to,
                key_id=sealed.key_id,
                message_id=sealed.message_id,
                mandatory=True,
                refused=refused,
                done=lambda confirmed: None if confirmed else lost(),
            )
        )

    def _watched_changed(self) -> None:
        self._owner.bridge_event(node_events.TIMER_DUE, _WATCHED_TIMER)

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
                self._gate,
                self._place,
                kind,
                body,
                to,
                answer_timeout_s=self._answer_timeout_s,
                answers=answers,
                done=done,
                refused=partial(self._refused, kind),
            )
        except CacheNetError as error:
            self._owner.report(error.reason, f"{kind} cannot be sent: {error}")
            return None

    def _refused(self, kind: str, error: MessageRefused) -> None:
        self._owner.bridge_event(node_events.PUBLICATION_REFUSED, (kind, error))

    def _done(self, number: int, confirmed: bool) -> None:
        self._owner.bridge_event(node_events.PUBLICATION_DONE, (number, confirmed))
