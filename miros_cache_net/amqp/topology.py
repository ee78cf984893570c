"""Names and arguments of everything declared at the broker: functions, no connection.

One durable topic exchange carries every place.  A message's routing key is
``cache.<scope>.<document>.<kind>``; each word is percent-encoded so far that it holds no dot, no ``*``, no
``#`` and nothing but ASCII.  A link's own queue is exclusive, server-named, and bound for all kinds of one
place; one shared request queue a place is consumed by whoever can answer.

AMQP carries routing keys and queue names in at most 255 bytes.  Longer ones are refused, not hashed: a name
that a person can read at the broker is worth more than scopes of 80 letters.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from miros_cache_net import limits
from miros_cache_net.amqp.link import Place, Publication
from miros_cache_net.errors import SettingsError, WrongPlace
from miros_cache_net.settings.networks import working_network

if TYPE_CHECKING:
    from pathlib import Path

    from miros_cache_net.settings import Settings

EXCHANGE_TYPE: Final = "topic"
#: What RabbitMQ begins the names with that it makes itself.
OWN_QUEUE_PREFIX: Final = "amq.gen-"
_FIRST_WORD: Final = "cache"


class RoutedTo(NamedTuple):
    """What a routing key says of its message: a hint that anybody can forge."""

    scope: str
    document: str
    kind: str


def place_of(settings: Settings, path: Path) -> Place:
    """Where the messages of the cache file at `path` go.

    At a named site the scope is, unless the settings name one, the network that this machine is in at this moment.
    """
    return Place(settings.exchange, _scope(settings), settings.for_file(path).document)


def encode_word(text: str) -> str:
    """`text` as one word of a routing key or queue name.  Raises `SettingsError` if empty or not UTF-8."""
    if not text:
        raise SettingsError("a scope, document or kind of messages must not be empty")
    try:
        return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")
    except UnicodeEncodeError:
        raise SettingsError("a scope, document or kind of messages holds a lone surrogate; use plain text") from None


def routing_key(place: Place, kind: str) -> str:
    """The key under which a message of `kind` goes to `place`'s exchange.  Raises `SettingsError`."""
    word = encode_word(kind)
    if len(word) > limits.KIND_BYTES:
        raise SettingsError(f"the kind of a message takes at most {limits.KIND_BYTES} bytes percent-encoded")
    return _fitting(f"{_place_words(place)}.{word}")


def parse_routing_key(key: str) -> RoutedTo:
    """The inverse of `routing_key`.  Raises `WrongPlace` for anything that it would not have made."""
    words = key.split(".")
    if len(words) != 4 or words[0] != _FIRST_WORD:
        raise WrongPlace("the routing key is not cache.<scope>.<document>.<kind>")
    try:
        routed = RoutedTo(*(unquote(word, errors="strict") for word in words[1:]))
        canonical = [encode_word(word) for word in routed] == words[1:]
    except (UnicodeDecodeError, SettingsError):
        canonical = False
    if not canonical:
        raise WrongPlace("a word of the routing key is not percent-encoded as agreed")
    return routed


def binding_key(place: Place) -> str:
    """Binds a queue for every kind of message of `place`, and no other place.  Raises `SettingsError`."""
    _fitting(f"{_place_words(place)}.{'k' * limits.KIND_BYTES}")
    return f"{_place_words(place)}.*"


def canary_key(token: str) -> str:
    """Routing key of a link's messages to itself; no place's binding takes it."""
    return f"canary.{encode_word(token)}"


def request_queue_name(place: Place) -> str:
    """The queue that those who can answer requests for `place` share.  Raises `SettingsError`."""
    words = (place.exchange, place.scope, place.document)
    return _fitting("cache.requests." + ".".join(encode_word(word) for word in words))


def lease_queue_name(place: Place) -> str:
    """The queue whose exclusive owner holds the place's lease.  Raises `SettingsError`."""
    words = (place.exchange, place.scope, place.document)
    return _fitting("cache.lease." + ".".join(encode_word(word) for word in words))


def check_place(place: Place) -> Place:
    """`place`, if all its names fit and may be used.  Raises `SettingsError`."""
    if not place.exchange or len(place.exchange.encode("utf-8", "replace")) > 255:
        raise SettingsError("the exchange's name takes 1 to 255 bytes")
    binding_key(place)
    request_queue_name(place)
    return place


def destination(place: Place, publication: Publication) -> tuple[str, str]:
    """Exchange and routing key of `publication`.  Raises ValueError or `SettingsError` for what cannot be sent."""
    named: tuple[object, ...] = (publication.kind, publication.queue, publication.requests)
    if sum(map(bool, named)) != 1:
        raise ValueError("a publication names exactly one of kind, queue and requests")
    if publication.kind:
        return place.exchange, _kept_routing_key(place, publication.kind)
    if publication.requests:
        return "", request_queue_name(place)
    if len(publication.queue.encode("utf-8", "replace")) > 255:
        raise ValueError("the name of a queue takes at most 255 bytes")
    return "", publication.queue


def is_server_named(queue: str) -> bool:
    """Whether `queue` can be some link's own queue; an answer goes nowhere else, whatever a message asks for."""
    return queue.startswith(OWN_QUEUE_PREFIX) and len(queue.encode("utf-8", "replace")) <= 255


def matches(binding: str, key: str) -> bool:
    """Whether a topic exchange hands a message with routing key `key` to a queue bound with `binding`."""
    return _match(binding.split("."), key.split("."))


def own_queue_arguments() -> dict[str, str | int]:
    """Of a link's own queue: bounded both ways, the oldest message gives way (newest state wins)."""
    return {
        "x-queue-type": "classic",
        "x-max-length": limits.NODE_QUEUE_MESSAGES,
        "x-max-length-bytes": limits.NODE_QUEUE_BYTES,
        "x-overflow": "drop-head",
    }


def request_queue_arguments() -> dict[str, str | int]:
    """Of a place's request queue: goes away by itself when nobody has used it for a while.

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


@lru_cache(maxsize=256)
def _kept_routing_key(place: Place, kind: str) -> str:
    return routing_key(place, kind)


def _place_words(place: Place) -> str:
    return f"{_FIRST_WORD}.{encode_word(place.scope)}.{encode_word(place.document)}"


def _fitting(name: str) -> str:
    if len(name) > 255:
        raise SettingsError(
            f"scope and document are too long for AMQP: {name[:40]}... takes {len(name)} of at most 255 bytes; "
            "shorten MIROS_CACHE_SCOPE or the file's name"
        )
    return name


def _match(binding: list[str], key: list[str]) -> bool:
    if not binding:
        return not key
    if binding[0] == "#":
        return any(_match(binding[1:], key[i:]) for i in range(len(key) + 1))
    return bool(key) and binding[0] in ("*", key[0]) and _match(binding[1:], key[1:])
