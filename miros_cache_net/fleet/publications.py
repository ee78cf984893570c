"""What is said to a fleet, encrypted and addressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from miros_cache_net.amqp.link import Place, Publication
from miros_cache_net.amqp.topology import is_server_named, parse_routing_key, request_queue_name
from miros_cache_net.wire import kinds
from miros_cache_net.wire.gate import Gate

EVERYBODY: Final = ""
#: Where to send a request that exactly one peer, whichever, shall answer.
ANY_PEER: Final = "?"


class Outgoing(NamedTuple):
    """A message for the link, and the id by which an answer names it."""

    publication: Publication
    message_id: str


def outgoing(
    gate: Gate,
    kind: str,
    body: Any,
    to: str,
    *,
    answer_timeout_s: float,
    answers: str = "",
    done: Callable[[bool], None] | None = None,
) -> Outgoing:
    """A message of `kind` to `EVERYBODY`, `ANY_PEER` or the queue `to`.

    answer_timeout_s  how long whoever asks any peer waits for it: nobody wants the answer later
    answers           the id of the request that it answers
    done              called with whether the broker has taken it

    Raises `PayloadError` or `TooLarge` for what no peer would open.
    """
    sealed = gate.seal(kind, body, answers=answers)
    publication = Publication(
        sealed.body,
        kind=kind if to == EVERYBODY else "",
        queue="" if to in (EVERYBODY, ANY_PEER) else to,
        requests=to == ANY_PEER,
        reply_here=kind in kinds.ASKING,
        key_id=sealed.key_id,
        ttl_s=answer_timeout_s if to == ANY_PEER else None,
        done=done,
    )
    return Outgoing(publication, sealed.message_id)


def routing_words(place: Place) -> Callable[[str], Sequence[str] | None]:
    """How the gate reads a routing key; what was sent straight to a queue carries the queue's name instead."""
    requests = request_queue_name(place)

    def words(key: str) -> Sequence[str] | None:
        return None if key == requests or is_server_named(key) else parse_routing_key(key)

    return words
