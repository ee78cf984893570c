"""What a host says to the fleet about its document, and what it makes of what it hears.

State-based replication (see `document`): whatever is lost is mended by the next exchange of whole
documents, so no message has to arrive.  *Known* is what the fleet is known to have: received from it, or
sent and confirmed.  A host sends its document only if it holds more than that, so nothing that came from
the fleet is ever sent on.

All methods are called by one thread.  Effects go through a `ReplicaPort`, so that the same logic runs in a
node and in a simulator.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any, Protocol

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.document import Document, Stamp
from miros_cache_net.errors import DocumentError, Reason
from miros_cache_net.fleet.clock_watch import ClockWatch
from miros_cache_net.fleet.complaints import Complaints
from miros_cache_net.fleet.pace import Pace
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.fleet.trickle import Trickle
from miros_cache_net.wire import envelope
from miros_cache_net.wire.envelope import Message


class ReplicaPort(Protocol):
    """What a replica can do to the world."""

    def send(self, kind: str, body: Any, to: str) -> None:
        """Send to `EVERYBODY`, `ANY_PEER` or the queue `to`; `Replica.sent` follows for kind ``CACHE``."""

    def merge(self, document: Document) -> None:
        """Have it merged into the file; `Replica.local_changed` follows if that changed anything."""

    def restamp(self, after: Stamp) -> None:
        """Have all stamps later than `after` given anew in the file; `Replica.local_changed` follows."""

    def serve(self, serving: bool) -> None:
        """Take part in answering the requests of joining hosts, or not."""

    def after(self, name: str, delay_s: float) -> None:
        """Call `Replica.timer` with `name` then, instead of what was set under that name before."""

    def report(self, reason: Reason, message: str) -> None:
        """Tell the users."""


class Replica:
    """One host's part in keeping one document.  `document` is the file's present state."""

    ANSWER_TIMER = "answer"
    DIGEST_TIMER = "digest"
    SPREAD_TIMER = "spread"

    def __init__(
        self,
        port: ReplicaPort,
        document: Document,
        clock: Clock,
        *,
        answer_timeout_s: float,
        digest_interval_s: float,
        rng: random.Random,
    ) -> None:
        self._port = port
        self._clock = clock
        self._answer_timeout_s = answer_timeout_s
        self._pace = Pace(limits.SPREAD_AT_ONCE, limits.SPREAD_LEAST_S, limits.SPREAD_MOST_S)
        self._held_back = False
        self._trickle = Trickle(limits.DIGEST_LEAST_S, digest_interval_s, rng)
        self.document = document
        self.in_sync = False
        self._linked = False
        self._asked = 0
        self._known = Document.unwritten({})
        self._in_flight: Document | None = None
        self._joining_with: Document | None = None
        self._asked_with: Document | None = None
        self._complaints = Complaints(clock, port.report)
        self._clock_watch = ClockWatch(clock, partial(self._complaints.tell, Reason.CLOCK))

    # --- the link ---------------------------------------------------------------------------------

    def link_up(self, request_servers: int | None) -> None:
        """The link stands; `request_servers` peers can answer."""
        self._linked = True
        self._asked = 0
        if request_servers:
            self._ask()
        else:
            self._joined()

    def link_down(self) -> None:
        """What was on its way may be lost, so nothing is known of the fleet any more."""
        self._linked = self.in_sync = False
        self._in_flight = self._joining_with = self._asked_with = None
        self._known = Document.unwritten({})
        self._port.serve(False)

    # --- this host --------------------------------------------------------------------------------

    def local_changed(self, document: Document) -> None:
        """The file holds `document` now, whoever wrote it."""
        if document.merged(self.document) is not document:
            # it went back: stamps from before the clock was set back were given anew, or an old copy was put there
            self._known, self._in_flight, self._asked_with = Document.unwritten({}), None, None
        self.document = document
        waiting = self._joining_with
        if waiting is not None and document.merged(waiting) is document:
            self._joined()
        self._spread()

    def sent(self, confirmed: bool) -> None:
        """The last ``CACHE`` was taken by the broker, or lost."""
        sent, self._in_flight = self._in_flight, None
        if sent is None:
            return
        if confirmed:
            self._known = self._known.merged(sent)
            self._spread()
        else:
            # the link comes back or the backlog drains; either way the digest timer tries again
            self._port.after(self.DIGEST_TIMER, limits.DIGEST_LEAST_S)

    def timer(self, name: str) -> None:
        """A moment asked for with `ReplicaPort.after` has come."""
        self._watch_clock()
        if name == self.ANSWER_TIMER:
            self._no_answer()
        elif name == self.SPREAD_TIMER:
            self._held_back = False
            self._spread()
        elif self.in_sync:
            if self.document.ahead_ms(self._clock.wall_ms()) > limits.CLOCK_AHEAD_MS:
                self._port.merge(Document.unwritten({}))  # any access has the store give such stamps anew
            self._spread()
            if self._trickle.should_send():
                self._send_digest()
            self._port.after(self.DIGEST_TIMER, self._trickle.next_delay_s())

    # --- the fleet --------------------------------------------------------------------------------

    def received(self, message: Message, reply_to: str) -> None:
        """A trusted message from another host."""
        self._watch_clock()
        if message.kind == envelope.CACHE_FILE_READ:
            if reply_to:
                self._answer(message, reply_to)
        elif message.kind == envelope.UNCHANGED:
            self._have_the_same(message)
        elif message.kind == envelope.DIGEST:
            self._compare(message, reply_to)
        elif message.kind in (envelope.CACHE, envelope.CACHE_FILE_WRITE, envelope.ANSWER):
            waiting = self._take(message)
            if message.kind == envelope.ANSWER and self._linked and not self.in_sync:
                self._join_once_stored(waiting)

    def _take(self, message: Message) -> Document | None:
        """Have the file take it in; the document if the file does not hold it yet."""
        try:
            document = Document.from_json(message.body)
        except DocumentError as error:
            self._complaints.tell(Reason.WIRE, message.origin.node, f"sent no document: {error}")
            return None
        if self._clock_watch.is_ahead(document, message.origin.node, self.document) or not document.is_written:
            return None
        self._known = self._known.merged(document)
        if self.document.merged(document) is self.document:
            return None
        self._port.merge(document)
        return document

    def _join_once_stored(self, waiting: Document | None) -> None:
        if waiting is None:
            self._joined()
        else:
            # a file that somebody holds must not keep this host out of the fleet for ever
            self._joining_with = waiting
            self._asked = limits.JOIN_ATTEMPTS
            self._port.after(self.ANSWER_TIMER, self._answer_timeout_s * limits.JOIN_ATTEMPTS)

    def _answer(self, message: Message, reply_to: str) -> None:
        held = self._all_known()
        if held.is_written and _version_in(message) == held.version:
            self._port.send(envelope.UNCHANGED, {"version": held.version}, reply_to)
        else:
            self._port.send(envelope.ANSWER, held.to_json(), reply_to)

    def _have_the_same(self, message: Message) -> None:
        """A peer holds just what this host held when it asked."""
        same = self._asked_with
        if same is None or _version_in(message) != same.version:
            return
        self._known = self._known.merged(same)
        waiting = None if self.document.merged(same) is self.document else same
        if waiting is not None:
            self._port.merge(waiting)  # it came before, and the file has failed to take it in
        if self._linked and not self.in_sync:
            self._join_once_stored(waiting)

    def _all_known(self) -> Document:
        """Also what the file is still to take in."""
        return self.document.merged(self._known) if self._known.is_written else self.document

    def _watch_clock(self) -> None:
        after = self._clock_watch.set_forward()
        if after is not None and max(self.document.last_stamp, self.document.floor.stamp) > after:
            self._port.restamp(after)

    def _compare(self, message: Message, reply_to: str) -> None:
        agrees = _version_in(message) == self._version()
        newest = str(message.body.get("newest", "")) if isinstance(message.body, dict) else ""
        # a host with a clock far ahead disagrees for as long as that lasts; it must not keep the fleet talking
        if self._trickle.heard(agrees or self._lies_ahead(newest)) and self.in_sync:
            self._port.after(self.DIGEST_TIMER, self._trickle.next_delay_s())
        if not agrees and reply_to and newest >= self._newest():
            self._read(reply_to)

    def _lies_ahead(self, newest: str) -> bool:
        try:
            return Stamp.parse(newest).wall_ms - self._clock.wall_ms() > limits.CLOCK_AHEAD_MS
        except DocumentError:
            return False

    # --- joining and spreading --------------------------------------------------------------------

    def _ask(self) -> None:
        self._asked += 1
        self._read(ANY_PEER)
        self._port.after(self.ANSWER_TIMER, self._answer_timeout_s)

    def _read(self, to: str) -> None:
        """Ask for the document, on condition that it is another than ours (compare If-None-Match, RFC 9110)."""
        self._asked_with = held = self._all_known()
        self._port.send(envelope.CACHE_FILE_READ, {"version": held.version} if held.is_written else None, to)

    def _no_answer(self) -> None:
        if self._linked and not self.in_sync:
            if self._asked < limits.JOIN_ATTEMPTS:
                self._ask()
            else:
                self._joined()

    def _joined(self) -> None:
        self.in_sync = True
        self._joining_with = None
        self._port.serve(True)
        self._spread()
        self._port.after(self.DIGEST_TIMER, self._trickle.next_delay_s())

    def _spread(self) -> None:
        """Send the document if the fleet is not known to have all of it.  One at a time, paced: bursts become few."""
        if not self.in_sync or self._in_flight is not None or not self.document.is_written:
            return
        if self._known.merged(self.document) is self._known:
            return
        if self._held_back:
            self._pace.more()
            return
        if wait_s := self._pace.take(self._clock.monotonic_s()):
            self._held_back = True
            self._port.after(self.SPREAD_TIMER, wait_s)
            return
        self._in_flight = self.document
        self._port.send(envelope.CACHE, self._body(), EVERYBODY)

    def _send_digest(self) -> None:
        body = {"version": self._version(), "newest": self._newest()}
        self._port.send(envelope.DIGEST, body, EVERYBODY)

    def _version(self) -> str:
        # what nobody wrote differs from host to host and is nothing to agree on
        return self.document.version if self.document.is_written else ""

    def _newest(self) -> str:
        return str(max(self.document.last_stamp, self.document.floor.stamp))

    def _body(self) -> dict[str, Any]:
        return self.document.to_json()


def _version_in(message: Message) -> Any:
    return message.body.get("version") if isinstance(message.body, dict) else None
