"""The messages between bridge and followers, as values and as bytes.  They contain no secret.

On the wire: four bytes of length, big-endian, then a JSON object with the protocol's version ``v``, a ``kind``
and its fields.  Within a version, fields may be added; older releases ignore them.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.errors import DocumentError, HostProtocolError

VERSION: Final = 1
_LENGTH: Final = struct.Struct(">I")

#: The possible questions to the fleet.
READ: Final = "read"
STATUSES: Final = "statuses"
#: May this host discover now?  True, or False while another host does.
LEASE: Final = "lease"
#: This host's health; its bridge answers by itself.
HEALTH: Final = "health"
QUESTIONS: Final = (READ, STATUSES, LEASE, HEALTH)

#: The words of `State.watched`: steps, and their optional contents.
STEPS: Final = "steps"
SPY: Final = "spy"
PAYLOADS: Final = "payloads"


class Hello(NamedTuple):
    """A follower's first message."""


class Look(NamedTuple):
    """A follower to its bridge: read the file, which has `version` now."""

    version: str


class Ask(NamedTuple):
    """A follower to its bridge: a question to the fleet (one of `QUESTIONS`); the follower waits for `timeout_s`."""

    number: int
    what: str
    timeout_s: float


class Steps(NamedTuple):
    """A follower to a watched bridge: its charts' steps, each a list as `observe.on_the_way` makes it."""

    steps: list[Any]


class State(NamedTuple):
    """A bridge to its followers: after `Hello`, after every change of a field, and as a heartbeat.

    version    of the document, `CacheReadPayload.version`
    connected  this host is in step with the fleet
    broker     product, version and address of the broker, "" without a link
    trouble    why there is no link, "" if there is one
    watched    the watched parts of this host's steps, as words of `WATCHED`; "" if nobody watches
    """

    version: str
    connected: bool
    broker: str = ""
    trouble: str = ""
    watched: str = ""


class Reply(NamedTuple):
    """A bridge's answer to `Ask`: a JSON value, or the reason why there is none."""

    number: int
    value: Any
    error: str = ""


class Full(NamedTuple):
    """A bridge to a process that it cannot accept as a follower; it then closes the connection."""


FromFollower = Hello | Look | Ask | Steps
FromBridge = State | Reply | Full


def encode(message: FromFollower | FromBridge) -> bytes:
    """The message's bytes.  Raises `HostProtocolError` if the other end would not accept them."""
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
    """The message in a body from a follower.  Raises `HostProtocolError`."""
    kind, fields = _parsed(body, limits.HOST_REQUEST_BYTES)
    if kind == "hello":
        return Hello()
    if kind == "look":
        return Look(_text(fields, "version"))
    if kind == "ask" and fields.get("what") in QUESTIONS:
        return Ask(_number(fields), fields["what"], _seconds(fields))
    if kind == "steps" and isinstance(fields.get("steps"), list):
        return Steps(fields["steps"])
    raise HostProtocolError("a follower sent a message of an unknown kind")


def from_bridge(body: bytes) -> FromBridge:
    """The message in a body from a bridge.  Raises `HostProtocolError`."""
    kind, fields = _parsed(body, limits.HOST_ANSWER_BYTES)
    if kind == "state" and type(fields.get("connected")) is bool:
        texts = (_text(fields, name) for name in ("version", "broker", "trouble"))
        version, broker, trouble = texts
        watched = _text(fields, "watched") if "watched" in fields else ""
        return State(version, fields["connected"], broker, trouble, watched)
    if kind == "reply" and "value" in fields:
        return Reply(_number(fields), fields["value"], _text(fields, "error"))
    if kind == "full":
        return Full()
    raise HostProtocolError("the bridge sent a message of an unknown kind")


class Frames:
    """Splits a stream of bytes into message bodies of 1 to `most_bytes` bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete.  Raises `HostProtocolError` for a bad length, before its body arrives."""
        self._rest += data
        bodies = []
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if not 0 < length <= self._most_bytes:
                raise HostProtocolError(f"a message of {length} bytes announced, 1 to {self._most_bytes} are accepted")
            if len(self._rest) < _LENGTH.size + length:
                break
            bodies.append(bytes(self._rest[_LENGTH.size : _LENGTH.size + length]))
            del self._rest[: _LENGTH.size + length]
        return bodies


def _parsed(body: bytes, most_bytes: int) -> tuple[str, dict[str, Any]]:
    try:
        fields = strict_json.loads(body, max_bytes=most_bytes, max_depth=limits.MESSAGE_DEPTH)
    except DocumentError:
        # The original error may quote the text.
        raise HostProtocolError("the data from the host's socket is not strict JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise HostProtocolError("the data from the host's socket is not a message")
    if type(fields.get("v")) is not int or fields["v"] != VERSION:
        raise HostProtocolError(
            f"a process of this host speaks another version than {VERSION}: run one release of miros-cache-net on it"
        )
    return fields["kind"], fields


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.isprintable() or len(value) > limits.HOST_TEXT_BYTES:
        raise HostProtocolError(
            f"the message's {name} is not a printable text of at most {limits.HOST_TEXT_BYTES} characters"
        )
    return value


def _number(fields: dict[str, Any]) -> int:
    value = fields.get("number")
    if type(value) is not int or not 0 <= value < 2**53:
        raise HostProtocolError("the message's number is not a valid number")
    return value


def _seconds(fields: dict[str, Any]) -> float:
    value = fields.get("timeout_s")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= limits.HOST_QUESTION_S:
        raise HostProtocolError("the message's timeout_s is not a valid number of seconds")
    return float(value)


def _cut(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[: limits.HOST_TEXT_BYTES]
