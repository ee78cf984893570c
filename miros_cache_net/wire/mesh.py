"""The formats of `miros-rabbitmq` 0.2.0 inside the encryption: events, and lines of a spy or trace.

An event is a pickled pair: its sender's address and the output of `miros.Event.dumps`.  A line is a pickled text.  A
key holder could send anything, so input is bounded, and refused unless it is one of these.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.frozen import thaw
from miros_cache_net.errors import DocumentError, EventNotSendable, FromTheFuture, MalformedMessage, TooOld
from miros_cache_net.wire.keyring import KeyRing
from miros_cache_net.wire.pickled import dump_pair, dump_text, load_pair, load_text
from miros_cache_net.wire.token_window import TokenWindow


class MeshEvent(NamedTuple):
    """An event from another program.

    sender       IP address of that program's broker, by its own account; never connected to
    signal_name  printable, 1 to `limits.SIGNAL_NAME_BYTES`
    payload      a JSON value of plain dicts and lists; None: there is none
    """

    sender: str
    signal_name: str
    payload: Any = None


#: Raises a `WireError` for a signal that must not be triggered from outside.
SignalCheck = Callable[[str], None]


class MeshEvents:
    """The format of events, for one `Door`."""

    encrypted_bytes: Final = limits.MESH_BODY_BYTES
    message_bytes: Final = limits.MESH_MESSAGE_BYTES

    def __init__(self, window: TokenWindow, check_signal: SignalCheck) -> None:
        self._window, self._check_signal = window, check_signal

    def parse(self, data: bytes) -> MeshEvent:
        sender, text = load_pair(data)
        try:
            ipaddress.ip_address(sender)
        except ValueError:
            raise MalformedMessage("the message's sender is not an IP address") from None
        return MeshEvent(sender, *_event_in(text))

    def admit(self, message: MeshEvent, token: bytes, routing_key: str) -> None:
        """Ignores the routing key: old programs may use any."""
        try:
            self._window.check(token)
        except (TooOld, FromTheFuture) as error:
            raise type(error)(f"{error} (from a program at {message.sender})") from None
        self._check_signal(message.signal_name)


class SnoopLines:
    """The format of a spy's or a trace's lines, for one `Door`."""

    encrypted_bytes: Final = limits.MESH_LINE_BODY_BYTES
    message_bytes: Final = limits.MESH_LINE_BYTES

    def __init__(self, window: TokenWindow) -> None:
        self._window = window

    def parse(self, data: bytes) -> str:
        return _UNSHOWN.sub("", load_text(data))

    def admit(self, message: str, token: bytes, routing_key: str) -> None:
        self._window.check(token)


def event_text(signal_name: str, payload: Any = None) -> str:
    """The event as `miros.Event.dumps` writes it.

    Raises `EventNotSendable` (a TypeError) for what JSON cannot hold or no receiver would accept.
    """
    try:
        text = json.dumps({"signal_name": signal_name, "payload": payload}, allow_nan=False)
        _event_in(text)
    except (TypeError, ValueError, RecursionError, MalformedMessage) as error:
        words = " ".join(str(error).split())
        raise EventNotSendable(
            f"event {str(signal_name)[:80]!r} cannot be sent, because its payload is not JSON: {words}"
        ) from None
    return text


def seal_event(ring: KeyRing, sender: str, text: str) -> bytes:
    """What `event_text` gave, encrypted; `sender`: the address under which old programs list the broker it goes to."""
    return ring.encrypt(dump_pair(sender, text))


def seal_line(ring: KeyRing, line: str) -> bytes:
    """A line of a spy or trace, encrypted; truncated at the cap."""
    return ring.encrypt(dump_text(line.encode("utf-8", "replace")[:_LINE_BYTES].decode("utf-8", "ignore")))


#: Leaves room for the pickle operations around the text.
_LINE_BYTES: Final = limits.MESH_LINE_BYTES - 64
#: Terminal control characters; colours, tabs and line ends are kept.
_UNSHOWN: Final = re.compile(r"\x1b(?!\[[0-9;]{0,20}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")


def _event_in(text: str) -> tuple[str, Any]:
    """Signal name and payload.  Raises `MalformedMessage`."""
    try:
        fields = strict_json.loads(text, max_bytes=limits.MESH_MESSAGE_BYTES, max_depth=limits.DOCUMENT_DEPTH)
    except DocumentError as error:
        raise MalformedMessage(f"the decrypted message is not strict JSON ({str(error)[:80]})") from None
    if not isinstance(fields, dict) or not {"signal_name", "payload"} <= set(fields):
        raise MalformedMessage("the decrypted message is not an event")
    name, payload = fields["signal_name"], fields["payload"]
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name.encode()) <= limits.SIGNAL_NAME_BYTES:
        raise MalformedMessage(f"the event's signal is not a printable name of 1 to {limits.SIGNAL_NAME_BYTES} bytes")
    # thawed, because programs may modify the payload
    return name, thaw(payload)
