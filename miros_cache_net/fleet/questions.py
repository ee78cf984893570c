"""Questions to the fleet from a host's processes or a command; concurrent askers share one request.

Call all methods on one thread: the bridge owner's, or the `FleetClient`'s.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY
from miros_cache_net.host.messages import READ, STATUSES
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message

READ_TIMER: Final = "fleet read"
STATUS_TIMER: Final = "fleet status"

#: Nodes answer at about the same time; after this long without another answer, the list is complete.
_QUIET_S: Final = 0.5
#: Noted with a status request whose first answer tells which node to ask for the document.
_WHOM: Final = "whom"
#: Base of the back-off, doubled each time, before resending a request that came back to this host.
_AGAIN_S: Final = 0.005


class QuestionPort(Protocol):
    """What `FleetQuestions` needs from the owner of the link; see `ReplicaPort`."""

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str: ...

    def after(self, name: str, delay_s: float) -> None: ...


class FleetQuestions:
    """The questions that wait for the fleet's answer.

    own_status     gives this host's own status, which no host sends to itself; None if the asker is not a node
    wall_ms        this host's wall clock, with which those of the others are compared
    open_requests  those of this host's link; each request for a document carries a note of what was asked.  The status
                   listing keeps its id separately, so that nothing can evict it
    """

    def __init__(
        self,
        port: QuestionPort,
        clock: Clock,
        open_requests: OpenRequests,
        *,
        answer_timeout_s: float,
        own_status: Callable[[], NodeStatus] | None,
        wall_ms: Callable[[], int],
        rng: random.Random,
    ) -> None:
        self._port = port
        self._clock = clock
        self._open = open_requests
        self._answer_timeout_s = answer_timeout_s
        self._own_status = own_status
        self._wall_ms = wall_ms
        self._rng = rng
        self._linked = self._has_queue = False
        self._trouble = ""
        self._reading: list[Question] = []
        self._ask_again_s = 0.0
        self._asked = self._came_back = 0
        self._listing: list[Question] = []
        self._listing_id = ""
        self._statuses: dict[str, Any] = {}
        self._listed_ms = 0
        self._quiet_at_s = 0.0
        self.timers: dict[str, Callable[[], None]] = {READ_TIMER: self._read, STATUS_TIMER: self._list}
        """Functions to call when a timer set with `QuestionPort.after` is due."""

    def ask(self, question: Question) -> None:
        """Answer `question` before its deadline: from the fleet, or with what prevents that."""
        if not self._linked and self._trouble:
            question.done(self._no_link())
        elif question.what == READ:
            self._reading.append(question)
            if len(self._reading) == 1:
                self._asked, self._came_back, self._ask_again_s = 0, 0, 0.0
            self._read()
        elif question.what == STATUSES:
            self._listing.append(question)
            if len(self._listing) == 1:
                self._begin_listing()
            self._list()
        else:
            question.done(
                Answer(
                    None,
                    "the bridge of this host does not know this question: run one release of miros-cache-net on all of "
                    "this host",
                )
            )

    def link_up(self, request_servers: int | None) -> None:
        """`request_servers`: as in `Replica.link_up`."""
        self._linked, self._trouble = True, ""
        self._has_queue = request_servers is not None
        self._asked, self._ask_again_s = 0, 0.0
        self._read()
        if self._listing:
            self._begin_listing()
            self._list()

    def link_down(self, trouble: str) -> None:
        self._linked, self._trouble = False, trouble
        for question in [*self._reading, *self._listing]:
            question.done(self._no_link())
        self._reading, self._listing = [], []
        self._listing_id = ""

    def received(self, message: Message, reply_to: str) -> None:
        """A trusted message from another host; ignored unless it answers an open request."""
        asked = self._open.about(message.answers, str)
        if message.kind == kinds.ANSWER and asked == READ:
            self._open.close(message.answers)
            self._found(Answer(message.body))
        elif message.kind == kinds.STATUS and isinstance(message.body, dict):
            if self._listing_id and message.answers == self._listing_id:
                self._statuses[f"{message.origin.node} {message.origin.boot}"] = self._compared(message.body)
                self._quiet_at_s = self._clock.monotonic_s() + _QUIET_S
                self._list()
            elif asked == _WHOM and message.body.get("connected") is True and reply_to:
                self._open.close(message.answers)
                self._ask_for(READ, kinds.CACHE_FILE_READ, reply_to)

    def came_back(self) -> None:
        """RabbitMQ delivered our request to this host, which consumes the request queue too.  It is sent again."""
        if not self._reading:
            return
        self._came_back += 1
        if self._came_back >= limits.OWN_REQUESTS:
            self._found(Answer(None))
            return
        pause_s = self._rng.uniform(0, _AGAIN_S * 2**self._came_back)
        self._ask_again_s = self._clock.monotonic_s() + pause_s
        self._port.after(READ_TIMER, pause_s)

    def request_lost(self) -> None:
        """The request queue is gone while the link is up: fall back at once to a node that answers a status request."""
        if self._linked and self._reading and self._asked == 1:
            self._asked += 1
            self._ask_for(_WHOM, kinds.STATUS_REQUEST, EVERYBODY)

    # --- the document of the first host to answer ------------------------------------------------------

    def _read(self) -> None:
        now_s = self._clock.monotonic_s()
        for question in [each for each in self._reading if each.deadline_s <= now_s]:
            self._reading.remove(question)
            question.done(Answer(None) if self._linked else self._no_link())
        if not self._reading:
            return
        if self._linked and now_s >= self._ask_again_s:
            self._ask_again_s = now_s + self._answer_timeout_s
            self._ask_any()
        wait_s = min(each.deadline_s for each in self._reading) - now_s
        self._port.after(READ_TIMER, min(wait_s, self._ask_again_s - now_s) if self._linked else wait_s)

    def _ask_any(self) -> None:
        """Use the request queue; if it is unavailable or brought no answer, ask a node that answers a status request.

        A request that came back to this host does not count as unanswered.
        """
        self._asked += 1
        if self._has_queue:
            self._ask_for(READ, kinds.CACHE_FILE_READ, ANY_PEER)
        if not self._has_queue or self._asked > 1 + self._came_back:
            self._ask_for(_WHOM, kinds.STATUS_REQUEST, EVERYBODY)

    def _ask_for(self, what: str, kind: str, to: str) -> None:
        self._open.add(self._port.send(kind, None, to), what)

    def _found(self, answer: Answer) -> None:
        waiting, self._reading = self._reading, []
        for question in waiting:
            question.done(answer)

    # --- the status of every node ----------------------------------------------------------------------

    def _begin_listing(self) -> None:
        self._statuses, self._quiet_at_s, self._listed_ms = {}, float("inf"), self._wall_ms()
        if self._linked:
            self._listing_id = self._port.send(kinds.STATUS_REQUEST, None, EVERYBODY)

    def _list(self) -> None:
        now_s = self._clock.monotonic_s()
        over = now_s >= self._quiet_at_s
        for question in [each for each in self._listing if over or each.deadline_s <= now_s]:
            self._listing.remove(question)
            found = [*([self._own_status()] if self._own_status else []), *self._statuses.values()]
            question.done(Answer(found) if self._linked else self._no_link())
        if self._listing:
            next_s = min(self._quiet_at_s, *(each.deadline_s for each in self._listing))
            self._port.after(STATUS_TIMER, next_s - now_s)
        else:
            self._listing_id = ""

    def _compared(self, status: dict[str, Any]) -> dict[str, Any]:
        """`status`, and how far its clock is ahead of this host's half-way between question and answer."""
        shown_ms = status.get("clock_ms")
        if type(shown_ms) is not int or not 0 < shown_ms <= limits.LATEST_STAMP_MS:
            return {**status, "ahead_s": None}
        return {**status, "ahead_s": (shown_ms - (self._listed_ms + self._wall_ms()) / 2) / 1000}

    def _no_link(self) -> Answer:
        return Answer(None, self._trouble or "this host has no link to its broker yet; ask again in a moment")
