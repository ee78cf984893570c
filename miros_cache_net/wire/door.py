"""The one order of checks between bytes and trusted messages, whatever the format inside the encryption.

Encrypted size, authenticity, decrypted size, parsing, admission: checks that keep strangers out come before those that
cost more or could be abused.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, Protocol, TypeVar

from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import TooLarge, WireError
from miros_cache_net.observe.families import REFUSED
from miros_cache_net.observe.registry import Labelled, Registry
from miros_cache_net.wire.keyring import RingProvider
from miros_cache_net.wire.refusals import Refusals, Say

M = TypeVar("M")


class Format(Protocol[M]):
    """A format inside the encryption.  Both methods raise a `WireError` for what they refuse, and nothing else.

    encrypted_bytes, message_bytes  the largest body that is decrypted, and the largest message that is parsed
    """

    @property
    def encrypted_bytes(self) -> int: ...

    @property
    def message_bytes(self) -> int: ...

    def parse(self, data: bytes) -> M:
        """The message that a key holder has encrypted; checks its version before its fields."""

    def admit(self, message: M, token: bytes, routing_key: str) -> None:
        """Refuse a well-formed message that is not meant for us or is a replay; `token`: its encrypted form."""


class Door(Generic[M]):
    """Opens messages of one format with the keys of one ring, and counts refusals.  Thread-safe.

    counted  where refusals are counted, by `WireError.counter`; None: nobody else reads the numbers
    """

    def __init__(
        self,
        rings: RingProvider,
        form: Format[M],
        *,
        clock: Clock = SYSTEM_CLOCK,
        say: Say | None = None,
        counted: Labelled | None = None,
    ) -> None:
        self._rings, self._form = rings, form
        self._counted = Registry().labelled(REFUSED) if counted is None else counted
        self._refusals = Refusals(self._counted, clock, say)

    @property
    def counters(self) -> Counter[str]:
        """How many messages were refused, by `WireError.counter`; a copy."""
        return self._counted.counts()

    def open(self, token: bytes, *, routing_key: str = "", key_id: str = "") -> M:
        """The trusted message in `token`.

        `routing_key` and `key_id` came outside the encryption, "" if absent: the format compares the first with the
        message, the second only says which key to try first.  Whatever the input, raises nothing but a `WireError`,
        after counting it.
        """
        try:
            within(token, self._form.encrypted_bytes, "encrypted")
            data = self._rings().decrypt(token, key_id)
            within(data, self._form.message_bytes, "decrypted")
            message = self._form.parse(data)
            self._form.admit(message, token, routing_key)
            return message
        except WireError as error:
            self._refusals.note(error)
            raise


def within(data: bytes, most: int, state: str) -> None:
    """Raises `TooLarge` for more than `most` bytes."""
    if len(data) > most:
        raise TooLarge(f"a message of {len(data)} bytes {state}; at most {most} are accepted")
