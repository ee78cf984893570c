"""What is said to a fleet, encrypted and addressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from miros_cache_net.amqp.link import Place, Publication
from miros_cache_net.amqp.topology import is_server_named, parse_routing_key, request_queue_name
from miros_cache_net.wire import envelope
from miros_cache_net.wire.gate import Gate

EVERYBODY: Final = ""
#: Where to send a request that exactly one peer, whichever, shall answer.
ANY_PEER: Final = "?"
#: Who wants an answer into the sender's own queue.
_ASKING_KINDS: Final = frozenset({envelope.CACHE_FILE_READ, envelope.DIGEST, envelope.STATUS_REQUEST})


def publication(
    gate: Gate, kind: str, body: Any, to: str, *, answer_timeout_s: float, done: Callable[[bool], None] | None = None
) -> Publication:
    """A message of `kind` to `EVERYBODY`, `ANY_PEER` or the queue `to`.

    answer_timeout_s  how long whoever asks any peer waits for it: nobody wants the answer later
    done              called with whether the broker has taken it

    Raises `PayloadError` or `TooLarge` for what no peer would open.
    """
    sealed = gate.seal(kind, body)
    return Publication(
        sealed.body,
        kind=kind if to == EVERYBODY else "",
        queue="" if to in (EVERYBODY, ANY_PEER) else to,
        requests=to == ANY_PEER,
        reply_here=kind in _ASKING_KINDS,
        key_id=sealed.key_id,
        ttl_s=answer_timeout_s if to == ANY_PEER else None,
        done=done,
    )


def routing_words(place: Place) -> Callable[[str], Sequence[str] | None]:
    """How the gate reads a routing key; what was sent straight to a queue carries the queue's name instead."""
    requests = request_queue_name(place)

    def words(key: str) -> Sequence[str] | None:
        return None if key == requests or is_server_named(key) else parse_routing_key(key)

    return words
