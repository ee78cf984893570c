"""The one door between bytes and trusted messages.

Outside it everything is hostile: bodies, properties, routing keys.  Inside it a `Message` comes from a
holder of a key, is well formed and bounded, is meant for this place, and is no repeated request.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import TooLarge, WireError, WrongPlace
from miros_cache_net.wire.envelope import Message, Origin, decode, encode
from miros_cache_net.wire.keyring import RingProvider
from miros_cache_net.wire.refusals import Refusals, Say
from miros_cache_net.wire.replay import ReplayWindow

#: Takes a routing key apart into scope, document and kind; None for a key that is no place's (a queue's name);
#: may raise `WrongPlace`.
KeyWords = Callable[[str], Sequence[str] | None]


class Sealed(NamedTuple):
    """A message as it goes out, with the id of the key that closes it and its own id."""

    body: bytes
    key_id: str
    message_id: str


class Gate:
    """Seals and opens the messages of one document of one scope, for one run of one node.

    rings       gives the ring as it is now (`keyring.open_ring`)
    node, host  who we are in the messages that we seal; `node` may be what gives the name once it is known
    key_words   reads a routing key, so that it can be compared with the inside; without it none is compared
    say         tells of refusals, now and then one of each reason; without it the log does

    Safe for all threads.  A gate belongs to one process: build another after `fork`.
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
    ) -> None:
        self._rings = rings
        self._scope, self._document = scope, document
        self._node: Callable[[], str] = node if callable(node) else lambda: node
        self._host = host
        self._key_words = key_words
        self._clock = clock
        self._sequence = itertools.count()
        self._window = ReplayWindow(clock)
        self._refusals = Refusals(clock, say)
        self.boot = secrets.token_hex(8)
        """The nonce of this run."""

    @property
    def counters(self) -> Counter[str]:
        """How many messages were refused, by `WireError.counter`; a copy."""
        return self._refusals.counts()

    def is_own(self, message: Message) -> bool:
        """Whether this very gate sealed the message, under whatever name."""
        return message.origin.boot == self.boot

    def seal(self, kind: str, body: Any = None, *, answers: str = "") -> Sealed:
        """A new message of `kind` (one of `kinds.KINDS`) around a JSON value, encrypted; `answers`: a request's id.

        Raises `PayloadError` for what is no message, `TooLarge` for a body that no peer would open.
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
        )
        data = encode(message)
        _within(data, limits.MESSAGE_BYTES, "to be sent")
        ring = self._rings()
        return Sealed(ring.encrypt(data), ring.primary_id, message.message_id)

    def open(self, raw: bytes, *, routing_key: str = "", key_id: str = "") -> Message:
        """The trusted message in `raw`.

        `routing_key` and `key_id` are what came along outside the encryption, "" if nothing: the first must
        agree with the inside, the second only says which key to try first.  Raises a `WireError`, after
        counting it, and nothing else for whatever the bytes and texts are.
        """
        try:
            _within(raw, limits.BODY_BYTES, "encrypted")
            data = self._rings().decrypt(raw, key_id)
            _within(data, limits.MESSAGE_BYTES, "decrypted")
            message = decode(data)
            self._check_place(message, routing_key)
            self._window.check(message)
            return message
        except WireError as error:
            self._refusals.note(error)
            raise

    def _check_place(self, message: Message, routing_key: str) -> None:
        if (message.scope, message.document) != (self._scope, self._document):
            raise WrongPlace(
                f"a message for {message.document!r} in scope {message.scope!r} reached {self._document!r} in "
                f"{self._scope!r}: somebody sends to the wrong queue or repeats messages elsewhere"
            )
        words = self._key_words(routing_key) if self._key_words and routing_key else None
        if words is not None and tuple(words) != (message.scope, message.document, message.kind):
            raise WrongPlace("a message whose routing key says something else than its inside")


def _within(data: bytes, most: int, state: str) -> None:
    if len(data) > most:
        raise TooLarge(f"a message of {len(data)} bytes {state}, at most {most} are taken")
