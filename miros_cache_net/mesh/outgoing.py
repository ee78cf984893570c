"""The queue to one broker: messages wait while the link is down; beyond the bounds the oldest is dropped."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.amqp.link import Link, Publication
from miros_cache_net.errors import MessageRefused, Unroutable
from miros_cache_net.observe.registry import Labelled
from miros_cache_net.statechart.timers import TIMERS, Timer

#: A broker's listeners are mostly there again some seconds after it; nobody may listen to these messages at all.
LISTENERS_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.5

_LOG = logging.getLogger(__name__)


class Outgoing(NamedTuple):
    """One event or line.

    text        the text to seal
    sequence    increasing; a message that is sent again keeps its place by it
    message_id  the same at every broker, so that a receiver that gets it from two of them drops the second
    made_s      its creation, on the monotonic clock
    """

    text: str
    sequence: int
    message_id: str
    made_s: float


class Backlog:
    """The newest messages, within the bounds of an outbox.  Not thread-safe."""

    def __init__(self) -> None:
        self._items: deque[Outgoing] = deque()
        self._bytes = 0

    def append(self, item: Outgoing) -> None:
        """Keep `item`, and drop the oldest beyond the bounds."""
        self._items.append(item)
        self._bytes += len(item.text)
        while len(self._items) > limits.MESH_OUTBOX_EVENTS or (
            self._bytes > limits.MESH_OUTBOX_BYTES and len(self._items) > 1
        ):
            self._bytes -= len(self._items.popleft().text)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self._items)


class Outbox:
    """Queues messages between the sending threads and one link; `put` is for any thread, `pump` for one at a time.

    link         started by its maker; calls `up`, `down` and the callbacks of publications, perhaps on its own thread
    publication  makes the publication just before it is sent, because a token contains its time
    wake         arranges for a call of `pump` soon
    now_s        the monotonic clock
    longest_s    messages that wait longer are dropped, because receivers would refuse them
    """

    def __init__(
        self,
        link: Link,
        publication: Callable[[Outgoing], Publication],
        wake: Callable[[], None],
        now_s: Callable[[], float],
        longest_s: float,
        counted: Labelled,
    ) -> None:
        self.link, self._counted = link, counted
        self._publication, self._wake = publication, wake
        self._now_s, self._longest_s = now_s, longest_s
        self._lock = threading.Lock()
        self._waiting: deque[Outgoing] = deque()
        self._waiting_bytes = 0
        self._lost: list[Outgoing] = []
        self._in_flight = 0
        self._up = False
        #: Until a queue has taken a message, or this moment: one message at a time goes out, as `mandatory`.
        self._looks_until_s: float | None = None
        self._pause: Timer | None = None

    def put(self, item: Outgoing) -> None:
        """Queue `item`; beyond the bounds the oldest waiting message is dropped and counted."""
        with self._lock:
            self._waiting.append(item)
            self._waiting_bytes += len(item.text)
            self._bound()

    def up(self) -> None:
        """The link is up.

        After a broker's restart its exchange exists before its listeners' queues do, and drops what comes.  So one
        message at a time looks for a listener, for `LISTENERS_S` at most.
        """
        with self._lock:
            self._up = True
            self._looks_until_s = self._now_s() + LISTENERS_S
        self._wake()

    def down(self) -> None:
        with self._lock:
            self._up = False

    def look_no_more(self) -> None:
        """Send everything, whether anybody listens or not."""
        with self._lock:
            self._looks_until_s = self._pause = None

    def pump(self) -> None:
        """Pass waiting messages to the link, at most `limits.MESH_IN_FLIGHT` in flight."""
        while (item := self._next()) is not None:
            try:
                publication = self._publication(item)
            except Exception as error:  # A message that cannot be sealed must not hold up the others.
                _LOG.warning("an event could not be sent: %s: %s", type(error).__name__, error)
                self._settle(item, "unsendable")
                continue
            self.link.publish(replace(publication, mandatory=True) if self._looks_until_s is not None else publication)

    def done(self, item: Outgoing, taken: bool) -> None:
        """The link is done with `item`; `taken`: the broker has it, else it is to be sent again."""
        if taken:
            self._looks_until_s = None
        self._settle(item, "sent" if taken else "")

    def refused(self, item: Outgoing, error: MessageRefused) -> None:
        """The broker has refused this particular message."""
        _LOG.warning("%s", error)
        self._settle(item, "refused")

    def nobody_listens(self, item: Outgoing) -> None:
        """No queue is bound for `item` yet: it is sent again after a pause, and the others after it."""
        with self._lock:
            if self._looks_until_s is not None and self._now_s() < self._looks_until_s:
                self._pause = TIMERS.schedule(LOOK_AGAIN_S, lambda _timer: self._pause_over)
            else:
                self._looks_until_s = None
        self._settle(item, "")

    def _pause_over(self) -> None:
        self._pause = None
        self._wake()

    @property
    def waiting(self) -> int:
        """The number of messages that the broker does not have yet."""
        with self._lock:
            return len(self._waiting) + len(self._lost) + self._in_flight

    def _next(self) -> Outgoing | None:
        with self._lock:
            self._put_back()
            while self._waiting and self._up and self._in_flight < self._at_once:
                item = self._waiting.popleft()
                self._waiting_bytes -= len(item.text)
                if self._now_s() - item.made_s <= self._longest_s:
                    self._in_flight += 1
                    return item
                self._counted.add("dropped")
            return None

    @property
    def _at_once(self) -> int:
        if self._looks_until_s is None:
            return limits.MESH_IN_FLIGHT
        return 1 if self._pause is None else 0

    def _settle(self, item: Outgoing, outcome: str) -> None:
        """`outcome`: the counter to increment, "" if the message is to be sent again."""
        with self._lock:
            self._in_flight -= 1
            if outcome:
                self._counted.add(outcome)
            else:
                self._lost.append(item)
            more = bool(self._waiting or self._lost) and self._up
        if more:
            self._wake()

    def _put_back(self) -> None:
        """Requeue messages lost with the link, first and in order; only when none is in flight, so all are known."""
        if self._lost and not self._in_flight:
            self._lost.sort(key=lambda item: item.sequence, reverse=True)
            for item in self._lost:
                self._waiting.appendleft(item)
                self._waiting_bytes += len(item.text)
            self._lost.clear()
            self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > limits.MESH_OUTBOX_EVENTS or (
            self._waiting_bytes > limits.MESH_OUTBOX_BYTES and len(self._waiting) > 1
        ):
            self._waiting_bytes -= len(self._waiting.popleft().text)
            self._counted.add("dropped")


def published(box: Outbox, item: Outgoing, body: bytes, exchange: str, routing_key: str) -> Publication:
    """The publication of `item`, sealed as `body`; it reports its outcome to `box`."""
    settled = _Settled(box, item)
    return Publication(
        body,
        exchange,
        routing_key,
        message_id=item.message_id,
        done=settled.done,
        refused=settled.refused,
    )


class _Settled:
    def __init__(self, box: Outbox, item: Outgoing) -> None:
        self._box, self._item = box, item
        self._refusal: MessageRefused | None = None

    def refused(self, error: MessageRefused) -> None:
        self._refusal = error

    def done(self, taken: bool) -> None:
        if self._refusal is None:
            self._box.done(self._item, taken)
        elif isinstance(self._refusal, Unroutable):
            self._box.nobody_listens(self._item)
        else:
            self._box.refused(self._item, self._refusal)
