"""What bridge and followers tell each other, as values and as bytes.  Nothing secret is among it.

On the wire: four bytes of length, big-endian, then a JSON object with the protocol's version ``v``, a ``kind``
and its fields.  Within a version, fields may be added that older releases pass over.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.errors import DocumentError, HostProtocolError

VERSION: Final = 1
_LENGTH: Final = struct.Struct(">I")

#: What may be asked of the fleet.
READ: Final = "read"
STATUSES: Final = "statuses"
#: May this host discover now?  True, or False while another host does.
LEASE: Final = "lease"
QUESTIONS: Final = (READ, STATUSES, LEASE)


class Hello(NamedTuple):
    """A follower's first message."""


class Look(NamedTuple):
    """A follower to its bridge: please look at the file, it holds `version` now."""

    version: str


class Ask(NamedTuple):
    """A follower to its bridge: a question to the fleet (one of `QUESTIONS`), worth an answer for `timeout_s`."""

    number: int
    what: str
    timeout_s: float


class State(NamedTuple):
    """A bridge to its followers: after `Hello`, whenever any of it has changed, and as a sign of life.

    version    of the document, `CacheReadPayload.version`
    connected  this host is in step with the fleet
    broker     product, version and address of the broker, "" without a link
    trouble    why there is no link, "" if there is one
    """

    version: str
    connected: bool
    broker: str = ""
    trouble: str = ""


class Reply(NamedTuple):
    """A bridge's answer to `Ask`: a JSON value, or what stood in the way."""

    number: int
    value: Any
    error: str = ""


class Full(NamedTuple):
    """A bridge to somebody it cannot take as a follower; it hangs up then."""


FromFollower = Hello | Look | Ask
FromBridge = State | Reply | Full


def encode(message: FromFollower | FromBridge) -> bytes:
    """The message's bytes.  Raises `HostProtocolError` for what the other end would not take."""
    fields = {key: _cut(value) if key in ("trouble", "broker") else value for key, value in message._asdict().items()}
    most = limits.HOST_ANSWER_BYTES if isinstance(message, FromBridge) else limits.HOST_REQUEST_BYTES
    try:
        body = strict_json.dumps({"v": VERSION, "kind": type(message).__name__.lower(), **fields})
    except DocumentError as error:
        raise HostProtocolError(f"a message to another process of this host cannot be sent: {error}") from None
    if len(body) > most:
        raise HostProtocolError(f"a message of {len(body)} bytes to another process of this host, at most {most} fit")
    return _LENGTH.pack(len(body)) + body


def from_follower(body: bytes) -> FromFollower:
    """What a follower has sent.  Raises `HostProtocolError`."""
    kind, fields = _parsed(body, limits.HOST_REQUEST_BYTES)
    if kind == "hello":
        return Hello()
    if kind == "look":
        return Look(_text(fields, "version"))
    if kind == "ask" and fields.get("what") in QUESTIONS:
        return Ask(_number(fields), fields["what"], _seconds(fields))
    raise HostProtocolError("a follower sent a message of no known kind")


def from_bridge(body: bytes) -> FromBridge:
    """What a bridge has sent.  Raises `HostProtocolError`."""
    kind, fields = _parsed(body, limits.HOST_ANSWER_BYTES)
    if kind == "state" and type(fields.get("connected")) is bool:
        return State(
            _text(fields, "version"), fields["connected"], _text(fields, "broker"), _text(fields, "trouble")
        )  # fmt: skip
    if kind == "reply" and "value" in fields:
        return Reply(_number(fields), fields["value"], _text(fields, "error"))
    if kind == "full":
        return Full()
    raise HostProtocolError("the bridge sent a message of no known kind")


class Frames:
    """Takes a stream of bytes apart into message bodies of 1 to `most_bytes` bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are whole now.  `HostProtocolError` for a length out of bounds, before its body comes."""
        self._rest += data
        bodies = []
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if not 0 < length <= self._most_bytes:
                raise HostProtocolError(f"a message of {length} bytes announced, 1 to {self._most_bytes} are taken")
            if len(self._rest) < _LENGTH.size + length:
                break
            bodies.append(bytes(self._rest[_LENGTH.size : _LENGTH.size + length]))
            del self._rest[: _LENGTH.size + length]
        return bodies


def _parsed(body: bytes, most_bytes: int) -> tuple[str, dict[str, Any]]:
    try:
        fields = strict_json.loads(body, max_bytes=most_bytes, max_depth=limits.MESSAGE_DEPTH)
    except DocumentError:
        # its own words may quote the text
        raise HostProtocolError("what came through the host's socket is no strict JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise HostProtocolError("what came through the host's socket is no message")
    if type(fields.get("v")) is not int or fields["v"] != VERSION:
        raise HostProtocolError(
            f"a process of this host speaks another version than {VERSION}: run one release of miros-cache-net on it"
        )
    return fields["kind"], fields


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.isprintable() or len(value) > limits.HOST_TEXT_BYTES:
        raise HostProtocolError(
            f"the message's {name} is no printable text of at most {limits.HOST_TEXT_BYTES} characters"
        )
    return value


def _number(fields: dict[str, Any]) -> int:
    value = fields.get("number")
    if type(value) is not int or not 0 <= value < 2**53:
        raise HostProtocolError("the message's number is none")
    return value


def _seconds(fields: dict[str, Any]) -> float:
    value = fields.get("timeout_s")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= limits.HOST_QUESTION_S:
        raise HostProtocolError("the message's timeout_s is no number of seconds")
    return float(value)


def _cut(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[: limits.HOST_TEXT_BYTES]
