"""Encrypts and addresses messages to a fleet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from miros_cache_net.amqp.link import Publication
from miros_cache_net.amqp.topology import is_server_named
from miros_cache_net.errors import MessageRefused
from miros_cache_net.fleet.place import Place, parse_routing_key, request_queue_name, routing_key
from miros_cache_net.wire import kinds
from miros_cache_net.wire.gate import Gate

EVERYBODY: Final = ""
#: Destination of a request that exactly one peer, no matter which, should answer.
ANY_PEER: Final = "?"


class Outgoing(NamedTuple):
    """A publication for the link, and the message id that an answer refers to."""

    publication: Publication
    message_id: str


def outgoing(
    gate: Gate,
    place: Place,
    kind: str,
    body: Any,
    to: str,
    *,
    answer_timeout_s: float,
    answers: str = "",
    done: Callable[[bool], None] | None = None,
    refused: Callable[[MessageRefused], None] | None = None,
) -> Outgoing:
    """A message of `kind` to `EVERYBODY` of `place`, `ANY_PEER` or the queue `to`.

    answer_timeout_s  seconds that an asker of any peer waits; the broker drops the request after that
    answers           the id of the request that it answers
    done              called with whether the broker confirmed it
    refused           called before `done` with the broker's reason, if it refuses this very message

    Raises `PayloadError` or `TooLarge` for a message that no peer would open.
    """
    sealed = gate.seal(kind, body, answers=answers)
    publication = Publication(
        sealed.body,
        exchange=place.exchange if to == EVERYBODY else "",
        routing_key=routing_key(place, kind) if to == EVERYBODY else "",
        queue="" if to in (EVERYBODY, ANY_PEER) else to,
        requests=to == ANY_PEER,
        reply_here=kind in kinds.ASKING,
        key_id=sealed.key_id,
        ttl_s=answer_timeout_s if to == ANY_PEER else None,
        done=done,
        refused=refused,
    )
    return Outgoing(publication, sealed.message_id)


def routing_words(place: Place) -> Callable[[str], Sequence[str] | None]:
    """How the gate parses a routing key; None for a message sent straight to a queue, whose key is the queue's name."""
    requests = request_queue_name(place)

    def words(key: str) -> Sequence[str] | None:
        return None if key == requests or is_server_named(key) else parse_routing_key(key)

    return words
