"""Asking the fleet without being a part of it: for commands and tools.  Nothing is written anywhere."""

from __future__ import annotations

import contextlib
import queue
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from miros_cache_net.amqp.link import Delivery, LinkUp
from miros_cache_net.document.value import Document
from miros_cache_net.errors import BrokerError, BrokerUnreachable, DocumentError, WireError
from miros_cache_net.fleet.links import LinkFactory, place_of, rabbit_link
from miros_cache_net.fleet.publications import ANY_PEER, EVERYBODY, outgoing, routing_words
from miros_cache_net.settings import Settings
from miros_cache_net.store.sidecar import new_node_name
from miros_cache_net.wire import kinds
from miros_cache_net.wire.envelope import Message
from miros_cache_net.wire.gate import Gate
from miros_cache_net.wire.keyring import open_ring


class _Arrival(NamedTuple):
    """A trusted message, and where its sender can be reached."""

    message: Message
    reply_to: str


class FleetClient:
    """A link of its own to the fleet that the settings name, for the life of a ``with`` block.

    All methods block the caller, for the time they are given.  Building one raises `SettingsError` for
    malformed settings or a missing key; `connect` raises `BrokerError` with the mend in it.
    """

    def __init__(
        self, settings: Settings, file_path: Path | None = None, *, link_factory: LinkFactory = rabbit_link
    ) -> None:  # fmt: skip
        self._settings = settings
        #: Whose nodes are asked.
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
        self._arrivals: queue.SimpleQueue[LinkUp | BrokerError | _Arrival] = queue.SimpleQueue()
        self.up: LinkUp | None = None

    def connect(self, timeout_s: float = 5.0) -> LinkUp:
        """Wait for the link; raises the `BrokerError` that stands in its way."""
        self._link.start(self)
        arrival = self._next(time.monotonic() + timeout_s)
        if isinstance(arrival, BrokerError):
            raise arrival
        if not isinstance(arrival, LinkUp):
            raise BrokerUnreachable(
                f"no link to the broker within {timeout_s:g} s; `miros-cache-net doctor` tells more"
            )
        self.up = arrival
        return arrival

    def read(self, timeout_s: float = 3.0) -> Document | None:
        """The document of whichever peer answers first; None if nobody does, or nobody has written it."""
        if self.up is None:
            return None
        by_queue = bool(self.up.request_servers)
        # where the queue is there and has no consumer, hardly anybody is there either: one look
        timeout_s = min(timeout_s, self._settings.answer_timeout_s) if self.up.request_servers == 0 else timeout_s
        deadline, first, asked = time.monotonic() + timeout_s, True, dict[str, str]()
        while (now_s := time.monotonic()) < deadline:
            if by_queue:
                asked[self._ask(kinds.CACHE_FILE_READ, ANY_PEER)] = kinds.ANSWER
            if not by_queue or not first:
                asked[self._ask(kinds.STATUS_REQUEST, EVERYBODY)] = kinds.STATUS
            answer = self._document_answer(asked, min(deadline, now_s + self._settings.answer_timeout_s))
            if answer is not None:
                document = _document(answer)
                return document if document is not None and document.is_written else None
            first = False
        return None

    def _document_answer(self, asked: dict[str, str], deadline: float) -> Message | None:
        """The first answer to one of `asked` with a document; whoever is there is asked for its own meanwhile."""
        while (arrival := self._message(asked, deadline)) is not None:
            message, reply_to = arrival
            if message.kind == kinds.ANSWER:
                return message
            if reply_to and isinstance(message.body, dict) and message.body.get("connected") is True:
                del asked[message.answers]
                asked[self._ask(kinds.CACHE_FILE_READ, reply_to)] = kinds.ANSWER
        return None

    def statuses(self, timeout_s: float = 2.0, quiet_s: float = 0.5) -> list[dict[str, Any]]:
        """What every node says of itself; ends after `timeout_s`, or `quiet_s` without another answer."""
        asked = {self._ask(kinds.STATUS_REQUEST, EVERYBODY): kinds.STATUS}
        deadline = time.monotonic() + timeout_s
        found: dict[str, dict[str, Any]] = {}
        while time.monotonic() < deadline:
            patience_s = quiet_s if found else timeout_s
            arrival = self._message(asked, min(deadline, time.monotonic() + patience_s))
            if arrival is None:
                break
            answer = arrival.message
            if isinstance(answer.body, dict):
                found[f"{answer.origin.node} {answer.origin.boot}"] = answer.body
        return sorted(found.values(), key=lambda status: str(status.get("node")))

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

    # --- LinkListener -------------------------------------------------------------------------------

    def link_up(self, up: LinkUp) -> None:
        self._arrivals.put(up)

    def link_down(self, error: BrokerError) -> None:
        self._arrivals.put(error)

    def delivered(self, delivery: Delivery) -> None:
        with contextlib.suppress(WireError):
            message = self._gate.open(delivery.body, routing_key=delivery.routing_key, key_id=delivery.key_id)
            self._arrivals.put(_Arrival(message, delivery.reply_to))

    # --- helpers ------------------------------------------------------------------------------------

    def _ask(self, kind: str, to: str) -> str:
        made = outgoing(self._gate, kind, None, to, answer_timeout_s=self._settings.answer_timeout_s)
        self._link.publish(made.publication)
        return made.message_id

    def _message(self, asked: dict[str, str], deadline: float) -> _Arrival | None:
        """The next answer to one of `asked`, an id and the kind of its answer each."""
        while (arrival := self._next(deadline)) is not None:
            if isinstance(arrival, BrokerError):
                raise arrival
            if isinstance(arrival, _Arrival) and asked.get(arrival.message.answers) == arrival.message.kind:
                return arrival
        return None

    def _next(self, deadline: float) -> LinkUp | BrokerError | _Arrival | None:
        try:
            return self._arrivals.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None


def _document(answer: Message) -> Document | None:
    try:
        return Document.from_json(answer.body)
    except DocumentError:
        return None
