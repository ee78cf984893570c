"""Where a document's messages go at a broker: names, and everything a link declares for one document.

One durable topic exchange carries every place.  A message's routing key is
``cache.<scope>.<document>.<kind>``; each word is percent-encoded, so it is ASCII without dot, ``*`` or ``#``.
A host's own queue is exclusive, server-named, and bound for all kinds of one place; each place has one shared request
queue, consumed by the hosts that can answer.

AMQP limits routing keys and queue names to 255 bytes.  Longer ones are refused, not hashed: a name that a person can
read at the broker is worth more than very long scopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from miros_cache_net import limits
from miros_cache_net.amqp.topology import Binding, Exchange, Queue, Topology
from miros_cache_net.errors import SettingsError, WrongPlace
from miros_cache_net.settings.networks import working_network

if TYPE_CHECKING:
    from pathlib import Path

    from miros_cache_net.settings import Settings

_FIRST_WORD: Final = "cache"


@dataclass(frozen=True)
class Place:
    """An exchange, a scope on it, and a document in that scope; each document has its own routing keys.

    `scope` and `document` are free text; they are percent-encoded where they become routing-key words
    or queue names.
    """

    exchange: str
    scope: str
    document: str


class RoutedTo(NamedTuple):
    """What a routing key says about its message: a hint that anybody can forge."""

    scope: str
    document: str
    kind: str


def place_of(settings: Settings, path: Path) -> Place:
    """Where the messages of the cache file at `path` go.

    At a named site, unless the settings name a scope, it is the network that this machine is in right now.
    """
    return Place(settings.exchange, _scope(settings), settings.for_file(path).document)


def document_topology(place: Place) -> Topology:
    """What a link declares for the document of `place`.  Raises `SettingsError` for names that AMQP cannot carry."""
    check_place(place)
    return Topology(
        exchanges=(Exchange(place.exchange),),
        own_queue=Queue("", own_queue_arguments(), (Binding(place.exchange, binding_key(place)),)),
        requests=Queue(request_queue_name(place), request_queue_arguments()),
        lease=lease_queue_name(place),
        canary_exchange=place.exchange,
    )


def check_place(place: Place) -> Place:
    """Returns `place`.  Raises `SettingsError` if one of its names is too long or not allowed."""
    if not place.exchange or len(place.exchange.encode("utf-8", "replace")) > 255:
        raise SettingsError("the exchange's name must have 1 to 255 bytes")
    binding_key(place)
    request_queue_name(place)
    return place


def encode_word(text: str) -> str:
    """`text` as one word of a routing key or queue name.  Raises `SettingsError` if empty or not UTF-8."""
    if not text:
        raise SettingsError("a scope, document or kind of messages must not be empty")
    try:
        return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")
    except UnicodeEncodeError:
        raise SettingsError("a scope, document or kind of messages contains a lone surrogate; use plain text") from None


@lru_cache(maxsize=256)
def routing_key(place: Place, kind: str) -> str:
    """The key under which a message of `kind` goes to `place`'s exchange.  Raises `SettingsError`."""
    word = encode_word(kind)
    if len(word) > limits.KIND_BYTES:
        raise SettingsError(f"the kind of a message may have at most {limits.KIND_BYTES} bytes percent-encoded")
    return _fitting(f"{_place_words(place)}.{word}")


def parse_routing_key(key: str) -> RoutedTo:
    """The inverse of `routing_key`.  Raises `WrongPlace` for any key that it would not have made."""
    words = key.split(".")
    if len(words) != 4 or words[0] != _FIRST_WORD:
        raise WrongPlace("the routing key is not cache.<scope>.<document>.<kind>")
    try:
        routed = RoutedTo(*(unquote(word, errors="strict") for word in words[1:]))
        canonical = [encode_word(word) for word in routed] == words[1:]
    except (UnicodeDecodeError, SettingsError):
        canonical = False
    if not canonical:
        raise WrongPlace("a word of the routing key is not percent-encoded in the canonical form")
    return routed


def binding_key(place: Place) -> str:
    """The key that binds a queue for all kinds of message of `place` and no other.  Raises `SettingsError`."""
    _fitting(f"{_place_words(place)}.{'k' * limits.KIND_BYTES}")
    return f"{_place_words(place)}.*"


def request_queue_name(place: Place) -> str:
    """Name of the queue shared by the hosts that can answer requests for `place`.  Raises `SettingsError`."""
    words = (place.exchange, place.scope, place.document)
    return _fitting("cache.requests." + ".".join(encode_word(word) for word in words))


def lease_queue_name(place: Place) -> str:
    """Name of the queue whose exclusive owner holds the place's lease.  Raises `SettingsError`."""
    words = (place.exchange, place.scope, place.document)
    return _fitting("cache.lease." + ".".join(encode_word(word) for word in words))


def mesh_queue_name(place: Place) -> str:
    """Name of the queue that elects the host that speaks in the old mesh for `place`.  Raises `SettingsError`."""
    words = (place.exchange, place.scope, place.document)
    return _fitting("cache.mesh." + ".".join(encode_word(word) for word in words))


def own_queue_arguments() -> dict[str, str | int]:
    """Arguments of a link's own queue: bounded in messages and bytes, drops the oldest (the newest state wins)."""
    return {
        "x-queue-type": "classic",
        "x-max-length": limits.NODE_QUEUE_MESSAGES,
        "x-max-length-bytes": limits.NODE_QUEUE_BYTES,
        "x-overflow": "drop-head",
    }


def request_queue_arguments() -> dict[str, str | int]:
    """Arguments of a place's request queue: it expires when unused.

    Durable and not exclusive, because RabbitMQ 4 refuses transient queues that are not exclusive.
    """
    return {
        "x-queue-type": "classic",
        "x-expires": limits.REQUEST_QUEUE_EXPIRES_MS,
        "x-max-length": limits.REQUEST_QUEUE_MESSAGES,
        "x-max-length-bytes": limits.REQUEST_QUEUE_BYTES,
        "x-overflow": "drop-head",
    }


def _scope(settings: Settings) -> str:
    if not settings.site:
        return settings.scope
    network = None if "scope" in settings.model_fields_set else working_network()
    return f"{settings.site}/{settings.scope if network is None else quote(str(network), safe='')}"


def _place_words(place: Place) -> str:
    return f"{_FIRST_WORD}.{encode_word(place.scope)}.{encode_word(place.document)}"


def _fitting(name: str) -> str:
    if len(name) > 255:
        raise SettingsError(
            f"scope and document are too long for AMQP: {name[:40]}... takes {len(name)} of at most 255 bytes; "
            "shorten MIROS_CACHE_SCOPE or the file's name"
        )
    return name
