"""The message inside the encryption: its fields, and its form as compact UTF-8 JSON.

The form is version 2: an object with ``v, kind, scope, document, id, answers, node, host, boot, seq, sent_ms, moment,
body`` (version 1 had no ``answers``; older hosts neither send nor read ``moment``).  Within a version, fields may be
added that older releases ignore; any other change increments the version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.value import is_node_name
from miros_cache_net.errors import DocumentError, MalformedMessage, PayloadError, WrongVersion
from miros_cache_net.observe.moments import LATEST_MOMENT
from miros_cache_net.wire.kinds import KINDS

VERSION: Final = 2


class Origin(NamedTuple):
    """The sender of a message.

    node      the sender's node name, as in its stamps
    host      its host's name, for people
    boot      a nonce of the sender's current run
    sequence  number of messages that it had sealed before in this run
    """

    node: str
    host: str
    boot: str
    sequence: int


@dataclass(frozen=True)
class Message:
    """One message.

    kind        one of `kinds.KINDS`
    message_id  unique among all messages
    sent_ms     milliseconds since 1970 by the sender's clock
    body        a JSON value, frozen if it came from `decode`
    answers     the id of the request that it answers, "" if it answers none
    moment      when it was sealed, by the sender's hybrid clock (`observe.moments`); 0 if it does not say
    """

    kind: str
    scope: str
    document: str
    message_id: str
    origin: Origin
    sent_ms: int
    body: Any = None
    answers: str = ""
    moment: int = 0


def encode(message: Message) -> bytes:
    """The message as JSON.  Raises `PayloadError` for a message that no receiver would accept."""
    origin = message.origin
    fields = {
        "v": VERSION,
        "kind": message.kind,
        "scope": message.scope,
        "document": message.document,
        "id": message.message_id,
        "answers": message.answers,
        "node": origin.node,
        "host": origin.host,
        "boot": origin.boot,
        "seq": origin.sequence,
        "sent_ms": message.sent_ms,
        **({"moment": message.moment} if message.moment else {}),
        "body": message.body,
    }
    try:
        _message(fields)
        return strict_json.dumps(fields)
    except (MalformedMessage, DocumentError) as error:
        raise PayloadError(f"a message of kind {message.kind[:40]!r} cannot be sent: {error}") from None


def decode(data: bytes) -> Message:
    """The message that `encode` gave.

    Raises `MalformedMessage` if it is not a message, `WrongVersion` if it has another version.  Neither error quotes
    the content.
    """
    try:
        fields = strict_json.loads(data, max_bytes=limits.MESSAGE_BYTES, max_depth=limits.MESSAGE_DEPTH)
    except DocumentError:
        # the original error may quote the content
        raise MalformedMessage("the decrypted message is not strict JSON") from None
    if not isinstance(fields, dict):
        raise MalformedMessage("the decrypted message is not a JSON object")
    version = fields.get("v")
    if type(version) is not int:
        raise MalformedMessage("the message has no format version")
    if version != VERSION:
        raise WrongVersion(
            f"a message of format version {version if 0 <= version < 1000 else '?'}, this release reads {VERSION}: "
            "run the same release of miros-cache-net on all hosts"
        )
    return _message(fields)


def _message(fields: dict[str, Any]) -> Message:
    if "body" not in fields:
        raise MalformedMessage("the message has no body")
    node = _text(fields, "node", limits.NODE_NAME_BYTES)
    if not is_node_name(node):
        raise MalformedMessage("the message's node is not a node name")
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise MalformedMessage("the message has an unknown kind")
    return Message(
        kind=kind,
        scope=_text(fields, "scope", limits.PLACE_WORD_BYTES),
        document=_text(fields, "document", limits.PLACE_WORD_BYTES),
        message_id=_text(fields, "id", limits.MESSAGE_ID_BYTES),
        answers=_text(fields, "answers", limits.MESSAGE_ID_BYTES, least_bytes=0),
        origin=Origin(
            node=node,
            host=_text(fields, "host", limits.HOST_NAME_BYTES),
            boot=_text(fields, "boot", limits.MESSAGE_ID_BYTES),
            sequence=_number(fields, "seq", _GREATEST_SEQUENCE),
        ),
        sent_ms=_number(fields, "sent_ms", limits.STAMP_WALL_MS),
        body=fields["body"],
        moment=_number(fields, "moment", LATEST_MOMENT) if "moment" in fields else 0,
    )


_GREATEST_SEQUENCE: Final = 2**63 - 1


def _text(fields: dict[str, Any], name: str, most_bytes: int, least_bytes: int = 1) -> str:
    """Only printable text, so that a peer's names cannot harm a terminal or a log."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.isprintable() or not least_bytes <= len(value.encode()) <= most_bytes:
        raise MalformedMessage(f"the message's {name} is not a printable text of {least_bytes} to {most_bytes} bytes")
    return value


def _number(fields: dict[str, Any], name: str, greatest: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= greatest:
        raise MalformedMessage(f"the message's {name} is not an integer from 0 to {greatest}")
    return value
