"""What a host tells the fleet about its document, and how it handles what it hears.

State-based replication (see `document`): the next exchange of whole documents repairs any loss, so no single message
has to arrive.  *Known* is what the fleet is known to have: received from it, or sent and confirmed.  A host sends its
document only if it holds more than that, so it never forwards what came from the fleet.

Call all methods on one thread.  Effects go through a `ReplicaPort`, so that the same logic runs in a node and in a
simulator.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.document.value import Document
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.fleet.answer_rate import AnswerRate
from miros_cache_net.fleet.clock_watch import ClockWatch
from miros_cache_net.fleet.complaints import Complaints
from miros_cache_net.fleet.digest import Digest, version_of
from miros_cache_net.fleet.joiners import Joiners
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.pace import Pace
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.fleet.refused_documents import RefusedDocuments
from miros_cache_net.fleet.trickle import Trickle
from miros_cache_net.observe.registry import Counter
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message


class ReplicaPort(Protocol):
    """A replica's effects on the outside world."""

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str:
        """Send to `EVERYBODY`, `ANY_PEER` or the queue `to`; `Replica.sent` follows for a ``CACHE`` that was sent.

        answers  the id of the request that this answers
        Returns the message's own id; "" if it could not be sent.
        """

    def merge(self, document: Document, node: str) -> None:
        """Have what `node` sent merged into the file.

        `Replica.local_changed` follows if that changed anything, `Replica.merge_refused` if it would exceed a cap.
        """

    def serve(self, serving: bool) -> None:
        """Start or stop answering the requests of joining hosts."""

    def after(self, name: str, delay_s: float) -> None:
        """Call ``Replica.timers[name]`` after `delay_s` seconds; replaces a pending timer of that name."""

    def report(self, reason: Reason, message: str) -> None:
        """Tell the users."""


class Replica:
    """One host's part in keeping one document.  `document` is the file's current state.

    open_requests    those of this host's link; the replica notes with each request the document that it held then
    answers_refused  counts requests left unanswered because of the rate limit
    """

    ANSWER_TIMER = "answer"
    DIGEST_TIMER = "digest"
    JOINER_TIMER = "joiner"
    SPREAD_TIMER = "spread"

    def __init__(
        self,
        port: ReplicaPort,
        document: Document,
        clock: Clock,
        open_requests: OpenRequests,
        *,
        answer_timeout_s: float,
        digest_interval_s: float,
        rng: random.Random,
        answers_refused: Counter,
    ) -> None:
        self._port = port
        self._clock = clock
        self._open = open_requests
        self._answer_timeout_s = answer_timeout_s
        self._pace = Pace(limits.SPREAD_AT_ONCE, limits.SPREAD_LEAST_S, limits.SPREAD_MOST_S)
        self._held_back = False
        self._trickle = Trickle(limits.DIGEST_LEAST_S, digest_interval_s, rng)
        self._joiners = Joiners(clock, rng)
        self.document = document
        self.in_sync = False
        """Whether this host takes part: it sends its document, and answers."""
        self._linked = False
        self._has_servers = self._is_large = False
        self._asked = 0
        self._known = Document.unwritten({})
        self._in_flight: Document | None = None
        self._unwelcome = Document.unwritten({})  # refused by the broker, or by any peer
        self._to_be_stored: Document | None = None
        # a host that is kept apart sends its digest in each interval; two of four may get lost
        self._refused = RefusedDocuments(clock, 4 * digest_interval_s)
        self._complaints = Complaints(clock, port.report)
        self._clock_watch = ClockWatch(clock, self._complaints)
        self._rate = AnswerRate(clock, answers_refused)
        self.timers: dict[str, Callable[[], None]] = {
            self.ANSWER_TIMER: self._no_answer,
            self.DIGEST_TIMER: self._digest_due,
            self.JOINER_TIMER: self._answer_joiners,
            self.SPREAD_TIMER: self._spread_again,
        }
        """Functions to call when a timer set with `ReplicaPort.after` is due."""

    @property
    def in_step(self) -> bool:
        """This host takes part, and its file holds what the fleet answered."""
        return self.in_sync and self._to_be_stored is None and not self._refused

    def has_spread(self, result: Document) -> bool:
        """Whether the fleet has all of `result`, or cannot get it over this link."""
        return not result.is_written or any(each.merged(result) is each for each in (self._known, self._unwelcome))

    @property
    def apart(self) -> str:
        """Which cap keeps this host's document apart from the others'; "" if none does."""
        return self._refused.trouble

    @property
    def trouble(self) -> str:
        """What keeps this host from agreeing with the others; "" if nothing does."""
        return self.apart or self._clock_watch.trouble

    # --- the link ---------------------------------------------------------------------------------

    def link_up(self, request_servers: int | None) -> None:
        """The link is up; `request_servers` peers consume the request queue (None: it is unavailable)."""
        self._linked = True
        self._has_servers = bool(request_servers)
        self._is_large = (request_servers or 0) >= limits.JOIN_CROWD
        self._asked = 0
        self._ask()

    def link_down(self) -> None:
        """Messages in flight may be lost, so what the fleet has is unknown again."""
        self._linked = self.in_sync = False
        self._in_flight = self._to_be_stored = None
        self._known = self._unwelcome = Document.unwritten({})
        self._refused.clear()
        self._joiners.forget()
        self._open.clear()
        self._port.serve(False)

    # --- this host --------------------------------------------------------------------------------

    def local_changed(self, document: Document) -> None:
        """The file holds `document` now, whoever wrote it."""
        self.document = document
        self._refused.local_changed(document)
        waiting = self._to_be_stored
        if waiting is not None and document.merged(waiting) is document:
            self._to_be_stored = None
            if not self.in_sync:
                self._joined(limits.DIGEST_ANSWERED_S)
        self._spread()

    def request_lost(self) -> None:
        """The request queue is gone while the link is up: ask everybody at once."""
        if self._linked and not self.in_sync and self._has_servers:
            self._has_servers = False
            self._ask()

    def hold_back(self) -> None:
        """The broker refuses the very ``CACHE`` in flight: do not send that version again."""
        if self._in_flight is not None:
            self._unwelcome = self._in_flight

    def sent(self, confirmed: bool) -> None:
        """The broker has confirmed the last ``CACHE``, or it was lost."""
        sent, self._in_flight = self._in_flight, None
        if sent is None:
            return
        if confirmed:
            self._known = self._known.merged(sent)
            self._spread()
        elif sent is self._unwelcome:
            self._spread()  # if it has changed since
        else:
            # the digest timer retries, by when the link may be back or the backlog drained
            self._port.after(self.DIGEST_TIMER, limits.DIGEST_LEAST_S)

    # --- the fleet --------------------------------------------------------------------------------

    def received(self, message: Message, reply_to: str) -> None:
        """A trusted message about the document from another host."""
        self._clock_watch.heard(message)
        if message.kind == kinds.CACHE_FILE_READ:
            if reply_to:
                self._answer(message, reply_to)
        elif message.kind == kinds.UNCHANGED:
            self._have_the_same(message)
        elif message.kind == kinds.DIGEST:
            digest = Digest.from_body(message.body)
            if digest is not None:
                self._compare(message, digest, reply_to)
        else:
            self._take(message)

    def _take(self, message: Message) -> None:
        """Merge a received document; if this host asked for it, it is in step once the file holds it."""
        try:
            document = Document.from_json(message.body)
        except DocumentError as error:
            self._complaints.tell(Reason.WIRE, message.origin.node, f"sent an invalid document: {error}")
            return
        waiting = self._merge(document, message.origin.node) if document.is_written else None
        if message.kind == kinds.ANSWER and self._open.about(message.answers, Document) is not None:
            self._open.close(message.answers)
            self._answered(waiting)

    def _merge(self, document: Document, node: str) -> Document | None:
        """Returns `document` if it still has to be written to the file, else None."""
        merged, cap = self.document.capped_merge(document)
        if cap:
            # the file chart refuses it too, but learns its stamps
            if self._refused.note(node, document, self.document, cap):
                self._port.merge(document, node)
                self._say_soon()
            return None
        self._refused.fits(node)
        self._known = self._known.merged(document)
        if merged is self.document:
            return None
        self._clock_watch.took(document, node)
        self._port.merge(document, node)
        return document

    def merge_refused(self, document: Document, node: str, held: Document) -> None:
        """The file, which now holds `held`, could not merge what `node` sent."""
        if held != self.document:
            self.local_changed(held)
        _, cap = held.capped_merge(document)
        if not cap:
            return  # the file has changed since, and the next digest shows it
        if self._refused.note(node, document, held, cap):
            self._say_soon()
        if self._to_be_stored is document:
            self._to_be_stored = None
            self._answered(None)

    def _answered(self, waiting: Document | None) -> None:
        if not self._linked or self.in_sync:
            return
        if waiting is None:
            self._to_be_stored = None
            self._joined(limits.DIGEST_ANSWERED_S)
        elif self._to_be_stored is None:
            # only the first answer: under constant writes the file always lags behind the newest one
            self._to_be_stored = waiting
            # a file locked by another process must not keep this host out of the fleet for ever
            self._asked = limits.JOIN_ATTEMPTS
            self._port.after(self.ANSWER_TIMER, self._answer_timeout_s * limits.JOIN_ATTEMPTS)

    def _answer(self, message: Message, reply_to: str) -> None:
        held = self._all_known()
        asked = message.body.get("version") if isinstance(message.body, dict) else None
        same = held.is_written and asked == held.version
        if not self._rate.allows(0 if same else len(held.contents_text)):
            return
        if same:
            self._port.send(kinds.UNCHANGED, {"version": held.version}, reply_to, message.message_id)
        else:
            self._port.send(kinds.ANSWER, held.to_json(), reply_to, message.message_id)

    def _have_the_same(self, message: Message) -> None:
        """A peer holds exactly what this host held when it asked."""
        asked_with = self._open.about(message.answers, Document)
        version = message.body.get("version") if isinstance(message.body, dict) else None
        if asked_with is not None and asked_with.is_written and version == asked_with.version:
            self._open.close(message.answers)
            self._agrees_with(asked_with, message.origin.node)

    def _agrees_with(self, same: Document, node: str) -> None:
        self._known = self._known.merged(same)
        waiting = None if self.document.merged(same) is self.document else same
        if waiting is not None:
            self._port.merge(waiting, node)  # it arrived before, but the file failed to take it
        self._answered(waiting)

    def _all_known(self) -> Document:
        """This host's document merged with what the file has yet to take in, unless that would exceed a cap."""
        if not self._known.is_written:
            return self.document
        together, cap = self.document.capped_merge(self._known)
        return self.document if cap else together

    def _compare(self, message: Message, digest: Digest, reply_to: str) -> None:
        agrees = digest.version == version_of(self.document)
        if agrees:
            self._joiners.answered(digest.answers)
            self._refused.fits(message.origin.node)
        is_wanted = self._wanted(digest, message.origin.node)
        if digest.joining:
            self._be_asked(message.message_id)
        elif not self._refused.heard(digest.version, self.document):
            if self._trickle.heard(agrees) and self.in_sync:
                self._port.after(self.DIGEST_TIMER, self._trickle.next_delay_s())
            newer = digest.newest >= Digest.of(self.document).newest
            if not agrees and reply_to and (newer or digest.apart or is_wanted):
                self._read(reply_to)

    def _wanted(self, digest: Digest, node: str) -> bool:
        """Whether the digest answers ours with a different document; one with the same document completes the join."""
        asked = {each: held for each in digest.answers if (held := self._open.about(each, Document)) is not None}
        # what this host holds now, or held when it asked
        same = [held for held in (self.document, *asked.values()) if asked and digest.version == version_of(held)]
        for each in asked:
            self._open.close(each)
        if same:
            self._agrees_with(same[0], node)
        elif asked and not self.in_sync:
            # give the peer, which holds something else, time to send it
            self._asked = limits.JOIN_ATTEMPTS
            self._port.after(self.ANSWER_TIMER, 2 * self._answer_timeout_s)
        return bool(asked) and not same

    def _be_asked(self, message_id: str) -> None:
        delay_s = self._joiners.asked(message_id, self.in_sync)
        if delay_s is not None:
            self._port.after(self.JOINER_TIMER, delay_s)

    def _answer_joiners(self) -> None:
        ids = self._joiners.take()
        if self._linked and ids:
            self._say(Digest.of(self.document, apart=bool(self._refused), answers=ids))

    # --- joining and spreading --------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask one peer through the request queue; if nobody serves that, ask everybody, unless a crowd does already."""
        self._asked += 1
        if self._has_servers:
            self._read(ANY_PEER)
        elif not self._joiners.crowd():
            self._open.add(self._say(Digest.of(self.document, joining=True)), self.document)
        self._port.after(self.ANSWER_TIMER, self._answer_timeout_s)

    def _read(self, to: str) -> None:
        """Ask for the document if it differs from ours (compare If-None-Match, RFC 9110)."""
        held = self._all_known()
        body = {"version": held.version} if held.is_written else None
        self._open.add(self._port.send(kinds.CACHE_FILE_READ, body, to), held)

    def _no_answer(self) -> None:
        if self._linked and not self.in_sync:
            if self._asked < limits.JOIN_ATTEMPTS:
                self._ask()
            else:
                self._joined(limits.DIGEST_UNANSWERED_S)

    def _joined(self, first_interval_s: float) -> None:
        """`first_interval_s`: of the digests, in a large fleet."""
        self.in_sync = True
        self._port.serve(True)
        self._spread()
        if (self._is_large or self._joiners.crowd()) and not self._refused:
            self._trickle.wait_longer(first_interval_s)
        self._port.after(self.DIGEST_TIMER, self._trickle.next_delay_s())

    def _spread(self) -> None:
        """Send the document if the fleet may lack some of it.  One at a time and paced, so bursts coalesce."""
        if not self.in_sync or self._in_flight is not None or not self.document.is_written:
            return
        if self._known.merged(self.document) is self._known or self.document.version == self._unwelcome.version:
            return
        if self._held_back:
            self._pace.more()
            return
        if wait_s := self._pace.take(self._clock.monotonic_s()):
            self._held_back = True
            self._port.after(self.SPREAD_TIMER, wait_s)
            return
        if self._port.send(kinds.CACHE, self.document.to_json(), EVERYBODY):
            self._in_flight = self.document
        else:
            self._unwelcome = self.document

    def _spread_again(self) -> None:
        self._held_back = False
        self._spread()

    def _digest_due(self) -> None:
        if not self.in_sync:
            return
        self._refused.forget_silent()
        self._spread()
        if self._trickle.should_send():
            self._say(Digest.of(self.document, apart=bool(self._refused)))
        self._port.after(self.DIGEST_TIMER, self._trickle.next_delay_s())

    def _say_soon(self) -> None:
        """Let the others know soon that this host has a different document."""
        self._trickle.heard(False)
        if self.in_sync:
            self._port.after(self.DIGEST_TIMER, self._trickle.next_delay_s())

    def _say(self, digest: Digest) -> str:
        return self._port.send(kinds.DIGEST, digest.to_body(), EVERYBODY)
