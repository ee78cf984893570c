"""Seals document messages, and opens them with the checks of `door`.

Outside the gate everything is hostile: bodies, properties, routing keys.  Inside, a `Message` comes from a key holder,
is well formed and bounded, is meant for this place, and is not a replayed request.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import WrongPlace
from miros_cache_net.observe.moments import MOMENTS
from miros_cache_net.observe.registry import Labelled
from miros_cache_net.wire.door import Door, within
from miros_cache_net.wire.envelope import Message, Origin, decode, encode
from miros_cache_net.wire.keyring import RingProvider
from miros_cache_net.wire.refusals import Say
from miros_cache_net.wire.replay import ReplayWindow

#: Splits a routing key into scope, document and kind; None for a key that belongs to no place (a queue's name); may
#: raise `WrongPlace`.
KeyWords = Callable[[str], Sequence[str] | None]


class Sealed(NamedTuple):
    """An encrypted message, with the id of its key and its own id."""

    body: bytes
    key_id: str
    message_id: str


class Envelopes:
    """The format of one document's messages; `key_words` as for `Gate`."""

    def __init__(self, scope: str, document: str, key_words: KeyWords | None, clock: Clock) -> None:
        self._scope, self._document, self._key_words = scope, document, key_words
        self._window = ReplayWindow(clock)

    @property
    def encrypted_bytes(self) -> int:
        return limits.BODY_BYTES

    @property
    def message_bytes(self) -> int:
        return limits.MESSAGE_BYTES

    def parse(self, data: bytes) -> Message:
        return decode(data)

    def admit(self, message: Message, token: bytes, routing_key: str) -> None:
        """The routing key must agree with the message, and a request must not be a replay."""
        if (message.scope, message.document) != (self._scope, self._document):
            raise WrongPlace(
                f"a message for {message.document!r} in scope {message.scope!r} reached {self._document!r} in "
                f"{self._scope!r}: a program sends to the wrong queue, or replays messages"
            )
        words = self._key_words(routing_key) if self._key_words and routing_key else None
        if words is not None and tuple(words) != (message.scope, message.document, message.kind):
            raise WrongPlace("the message's routing key contradicts its contents")
        self._window.check(message)


class Gate:
    """Seals and opens the messages of one document of one scope, for one run of one node.

    rings       gives the current ring (`keyring.open_ring`)
    node, host  the sender in messages that we seal; `node` may be a function, for a name not known yet
    key_words   splits a routing key for comparison with the message; None: keys are not compared
    say         reports refusals, rate-limited per reason; None: they are logged
    counted     as for `Door`

    Thread-safe.  A gate belongs to one process: build another after `fork`.
    """

    def __init__(
        self,
        rings: RingProvider,
        *,
        scope: str,
        document: str,
        node: str | Callable[[], str],
        host: str,
        key_words: KeyWords | None = None,
        clock: Clock = SYSTEM_CLOCK,
        say: Say | None = None,
        counted: Labelled | None = None,
    ) -> None:
        self._rings = rings
        self._scope, self._document = scope, document
        self._node: Callable[[], str] = node if callable(node) else lambda: node
        self._host = host
        self._clock = clock
        self._sequence = itertools.count()
        self._door = Door(rings, Envelopes(scope, document, key_words, clock), clock=clock, say=say, counted=counted)
        self.boot = secrets.token_hex(8)
        """The nonce of this run."""

    @property
    def counters(self) -> Counter[str]:
        """How many messages were refused, by `WireError.counter`; a copy."""
        return self._door.counters

    def is_own(self, message: Message) -> bool:
        """Whether this very gate sealed the message, under whatever name."""
        return message.origin.boot == self.boot

    def seal(self, kind: str, body: Any = None, *, answers: str = "") -> Sealed:
        """A new message of `kind` (one of `kinds.KINDS`) around a JSON value, encrypted; `answers`: a request's id.

        Raises `PayloadError` for an invalid message, `TooLarge` for a body that no peer would open.
        """
        sequence = next(self._sequence)
        message = Message(
            kind=kind,
            scope=self._scope,
            document=self._document,
            message_id=f"{self.boot}-{sequence}",
            origin=Origin(self._node(), self._host, self.boot, sequence),
            sent_ms=self._clock.wall_ms(),
            body=body,
            answers=answers,
            moment=MOMENTS.now(),
        )
        data = encode(message)
        within(data, limits.MESSAGE_BYTES, "to be sent")
        ring = self._rings()
        return Sealed(ring.encrypt(data), ring.primary_id, message.message_id)

    def open(self, raw: bytes, *, routing_key: str = "", key_id: str = "") -> Message:
        """The trusted message in `raw`; hints and errors as for `Door.open`."""
        message = self._door.open(raw, routing_key=routing_key, key_id=key_id)
        MOMENTS.heard(message.moment)
        return message
