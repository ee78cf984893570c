"""Asks the fleet without joining it, for commands and tools.  Writes nothing."""

from __future__ import annotations

import contextlib
import queue
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from types import TracebackType
from typing import Any

from miros_cache_net import limits
from miros_cache_net.amqp.link import Delivery, LinkUp
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.document.value import Document
from miros_cache_net.errors import BrokerError, BrokerUnreachable, DocumentError, WireError
from miros_cache_net.fleet.inbox import Received
from miros_cache_net.fleet.links import LinkFactory, rabbit_link
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.place import place_of
from miros_cache_net.fleet.publications import EVERYBODY, outgoing, routing_words
from miros_cache_net.fleet.questions import FleetQuestions
from miros_cache_net.fleet.trace_watch import OpenWatch, TraceAnswer
from miros_cache_net.host.asking import Asking
from miros_cache_net.host.messages import READ
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.settings import Settings
from miros_cache_net.store.sidecar import new_node_name
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import open_ring


class FleetClient:
    """Its own link to the fleet that the settings name, for the life of a ``with`` block.

    Ask through `fleet`; questions are handled on the caller's thread, one at a time.  The constructor raises
    `SettingsError` for malformed settings or a missing key; `connect` raises a `BrokerError` that says how to fix it.
    """

    def __init__(
        self, settings: Settings, file_path: Path | None = None, *, link_factory: LinkFactory = rabbit_link
    ) -> None:  # fmt: skip
        self._answer_timeout_s = settings.answer_timeout_s
        #: The place whose nodes are asked.
        self.place = place = place_of(settings, file_path or settings.file)
        self._gate = Gate(
            open_ring(settings),
            scope=place.scope,
            document=place.document,
            node=new_node_name("client"),
            host=settings.node_name,
            key_words=routing_words(place),
        )
        self._link = link_factory(settings, place)
        self._arrivals: queue.SimpleQueue[LinkUp | BrokerError | Received] = queue.SimpleQueue()
        self.up: LinkUp | None = None
        #: Messages dropped because this program has not read those before them.
        self.unread = 0
        self._due_s: dict[str, float] = {}
        self._questions = FleetQuestions(
            self,
            SYSTEM_CLOCK,
            OpenRequests(),
            answer_timeout_s=settings.answer_timeout_s,
            own_status=None,
            wall_ms=SYSTEM_CLOCK.wall_ms,
            rng=random.Random(),
        )
        self.fleet = Asking(self._ask)
        #: Called on the caller's thread, during questions and `listen`, with each change that a node sends to all.
        self.on_change: Callable[[Message], None] = lambda _message: None

    def connect(self, timeout_s: float = 5.0) -> LinkUp:
        """Wait up to `timeout_s` for the link.  Raises the `BrokerError` that prevents it."""
        self._link.start(self)
        arrival = self._next(time.monotonic() + timeout_s)
        if isinstance(arrival, BrokerError):
            raise arrival
        if not isinstance(arrival, LinkUp):
            raise BrokerUnreachable(f"no link to the broker within {timeout_s:g} s; `miros-cache-net doctor` says why")
        self._is_up(arrival)
        return arrival

    def listen(self, timeout_s: float) -> bool:
        """Take in what comes for up to `timeout_s` seconds; True at once when a change has been heard."""
        deadline_s = time.monotonic() + timeout_s
        while (arrival := self._next(deadline_s)) is not None:
            self._take(arrival)
            if isinstance(arrival, Received) and arrival.message.kind == kinds.CACHE:
                return True
        return False

    def documents(self, nodes: Set[str], timeout_s: float = 2.0) -> dict[str, Document]:
        """The documents of those `nodes` that give theirs within `timeout_s` seconds, by name.

        A node is asked through the queue that its status names.
        """
        found: dict[str, Document] = {}
        asked: dict[str, str] = {}
        status_id = self.send(kinds.STATUS_REQUEST, None, EVERYBODY)
        deadline_s = time.monotonic() + timeout_s
        while len(found) < len(nodes) and (arrival := self._next(deadline_s)) is not None:
            self._take(arrival)
            if not isinstance(arrival, Received):
                continue
            message, node = arrival.message, arrival.message.origin.node
            if message.kind == kinds.STATUS and message.answers == status_id and node in nodes and arrival.reply_to:
                asked[self.send(kinds.CACHE_FILE_READ, None, arrival.reply_to)] = node
            elif message.kind == kinds.ANSWER and asked.get(message.answers) == node:
                with contextlib.suppress(DocumentError):
                    found[node] = Document.from_json(message.body)
        return found

    def close(self) -> None:
        """End the link."""
        self._link.stop()

    def __enter__(self) -> FleetClient:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()

    def traces(self, wanted: Mapping[str, Any], until_s: float) -> Iterator[TraceAnswer | None]:
        """What the fleet's charts did and do, until `until_s` (monotonic): answers as they come, None at each pause.

        wanted  ``spy`` and ``payloads`` (bool), ``charts`` and ``nodes`` (lists of names, [] for all)

        The watch is renewed while the iterator runs; afterwards each host ends it by itself.
        """
        watch, name, renew_s = OpenWatch(), secrets.token_hex(8), 0.0
        while (now_s := time.monotonic()) < until_s:
            if now_s >= renew_s and self.up is not None:
                watch.asked(self.send(kinds.TRACE_REQUEST, {"watch": name, **wanted}, EVERYBODY))
                renew_s = now_s + limits.TRACE_RENEW_S
            arrival = self._next(min(until_s, now_s + limits.TRACE_EVERY_S))
            if isinstance(arrival, LinkUp):
                self._is_up(arrival)
                renew_s = 0.0
            elif isinstance(arrival, BrokerError):
                self.up = None
            yield watch.answer(arrival.message) if isinstance(arrival, Received) else None

    # --- LinkListener -------------------------------------------------------------------------------

    def link_up(self, up: LinkUp) -> None:
        self._arrivals.put(up)

    def link_down(self, error: BrokerError) -> None:
        self._arrivals.put(error)

    def delivered(self, delivery: Delivery) -> None:
        with contextlib.suppress(WireError):
            message = self._gate.open(delivery.body, routing_key=delivery.routing_key, key_id=delivery.key_id)
            # a fleet that answers faster than this program reads must not fill its memory
            if self._arrivals.qsize() < limits.TRACE_WAITING:
                self._arrivals.put(Received(message, delivery.reply_to))
            else:
                self.unread += 1

    # --- QuestionPort -------------------------------------------------------------------------------

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str:
        made = outgoing(
            self._gate, self.place, kind, body, to, answer_timeout_s=self._answer_timeout_s, answers=answers
        )
        self._link.publish(made.publication)
        return made.message_id

    def after(self, name: str, delay_s: float) -> None:
        self._due_s[name] = time.monotonic() + delay_s

    # --- helpers ------------------------------------------------------------------------------------

    def _ask(self, question: Question) -> None:
        """Returns only when the question is answered: no other thread drives the link."""
        deadline_s = question.deadline_s
        if question.what == READ and self.up is not None and self.up.request_servers == 0:
            # A request queue without consumers means that probably no node is up: one attempt is enough.
            deadline_s = min(deadline_s, time.monotonic() + self._answer_timeout_s)
        answers: list[Answer] = []
        self._questions.ask(Question(question.what, deadline_s, answers.append))
        while not answers:
            self._go_on()
        question.done(answers[0])

    def _go_on(self) -> None:
        """Wait for the next timer or arrival, and process it."""
        name, due_s = min(self._due_s.items(), key=lambda item: item[1])
        arrival = self._next(due_s) if time.monotonic() < due_s else None
        if arrival is None:
            del self._due_s[name]
            self._questions.timers[name]()
        else:
            self._take(arrival)

    def _take(self, arrival: LinkUp | BrokerError | Received) -> None:
        if isinstance(arrival, LinkUp):
            self._is_up(arrival)
        elif isinstance(arrival, BrokerError):
            self._questions.link_down(str(arrival))
        else:
            self._questions.received(*arrival)
            if arrival.message.kind == kinds.CACHE:
                self.on_change(arrival.message)

    def _is_up(self, up: LinkUp) -> None:
        self.up = up
        # a queue without consumers is as good as none
        self._questions.link_up(up.request_servers or None)

    def _next(self, deadline_s: float) -> LinkUp | BrokerError | Received | None:
        try:
            return self._arrivals.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            return None
