"""Questions of a host's processes to the fleet: asked once, however many of them want to know.

All methods are called by the bridge's owner's thread.
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
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message

READ_TIMER: Final = "fleet read"
STATUS_TIMER: Final = "fleet status"

#: The nodes of a fleet that answer at all do so together; after this long without another answer it was the last.
_QUIET_S: Final = 0.5
#: Noted with a request for the status whose first answer tells whom to ask for the document.
_WHOM: Final = "whom"
#: First pause, doubled each time, before a request that came back to ourselves goes out again.
_AGAIN_S: Final = 0.005


class QuestionPort(Protocol):
    """What these need of the bridge; see `ReplicaPort`."""

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str: ...

    def after(self, name: str, delay_s: float) -> None: ...


class FleetQuestions:
    """What waits for an answer of the fleet.  `own_status` gives this host's own, which nobody sends to itself.

    open_requests  of this host's link; with each request a word is noted that tells what was asked with it
    """

    def __init__(
        self,
        port: QuestionPort,
        clock: Clock,
        open_requests: OpenRequests,
        *,
        answer_timeout_s: float,
        own_status: Callable[[], dict[str, Any]],
        rng: random.Random,
    ) -> None:
        self._port = port
        self._clock = clock
        self._open = open_requests
        self._answer_timeout_s = answer_timeout_s
        self._own_status = own_status
        self._rng = rng
        self._linked = self._has_queue = False
        self._trouble = ""
        self._reading: list[Question] = []
        self._ask_again_s = 0.0
        self._asked = self._came_back = 0
        self._listing: list[Question] = []
        self._listing_id = ""
        self._statuses: dict[str, Any] = {}
        self._quiet_at_s = 0.0

    def ask(self, question: Question) -> None:
        """Answer it in time, by the fleet or with what stands in the way."""
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
            question.done(Answer(None, "the bridge of this host does not know this question: run one release on it"))

    def link_up(self, request_servers: int | None) -> None:
        """`request_servers`: as `Replica.link_up` has it."""
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

    def timer(self, name: str) -> None:
        """A moment asked for with `QuestionPort.after` has come."""
        if name == READ_TIMER:
            self._read()
        elif name == STATUS_TIMER:
            self._list()

    def received(self, message: Message, reply_to: str) -> None:
        """A trusted message from another host; only an answer to what was asked counts."""
        asked = self._open.about(message.answers, str)
        if message.kind == kinds.ANSWER and asked == READ:
            self._open.close(message.answers)
            self._found(Answer(message.body))
        elif message.kind == kinds.STATUS and isinstance(message.body, dict):
            if asked == STATUSES and self._listing:
                self._statuses[f"{message.origin.node} {message.origin.boot}"] = message.body
                self._quiet_at_s = self._clock.monotonic_s() + _QUIET_S
                self._list()
            elif asked == _WHOM and message.body.get("connected") is True and reply_to:
                self._open.close(message.answers)
                self._ask_for(READ, kinds.CACHE_FILE_READ, reply_to)

    def came_back(self) -> None:
        """RabbitMQ has handed our request to ourselves: we are one of those who answer.  It goes out again."""
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
        """The request queue has gone while the link stands: who says that it is there is asked at once."""
        if self._linked and self._reading and self._asked == 1:
            self._asked += 1
            self._ask_for(_WHOM, kinds.STATUS_REQUEST, EVERYBODY)

    # --- one document of whoever answers first --------------------------------------------------------

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
        """By the queue of those who answer; where it cannot be had, or that was in vain, whoever says that it is there.

        A request that came back to ourselves was not in vain.
        """
        self._asked += 1
        if self._has_queue:
            self._ask_for(READ, kinds.CACHE_FILE_READ, ANY_PEER)
        if not self._has_queue or self._asked > 1 + self._came_back:
            self._ask_for(_WHOM, kinds.STATUS_REQUEST, EVERYBODY)

    def _ask_for(self, what: str, kind: str, to: str) -> str:
        message_id = self._port.send(kind, None, to)
        self._open.add(message_id, what)
        return message_id

    def _found(self, answer: Answer) -> None:
        waiting, self._reading = self._reading, []
        for question in waiting:
            question.done(answer)

    # --- what every node says of itself ---------------------------------------------------------------

    def _begin_listing(self) -> None:
        self._statuses, self._quiet_at_s = {}, float("inf")
        if self._linked:
            self._listing_id = self._ask_for(STATUSES, kinds.STATUS_REQUEST, EVERYBODY)

    def _list(self) -> None:
        now_s = self._clock.monotonic_s()
        over = now_s >= self._quiet_at_s
        for question in [each for each in self._listing if over or each.deadline_s <= now_s]:
            self._listing.remove(question)
            found = [self._own_status(), *self._statuses.values()]
            question.done(Answer(found) if self._linked else self._no_link())
        if self._listing:
            next_s = min(self._quiet_at_s, *(each.deadline_s for each in self._listing))
            self._port.after(STATUS_TIMER, next_s - now_s)
        else:
            self._open.close(self._listing_id)

    def _no_link(self) -> Answer:
        return Answer(None, self._trouble or "this host has no link to its broker yet; ask again in a moment")
