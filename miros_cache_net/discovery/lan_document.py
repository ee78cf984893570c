"""The LAN document: the format in which a discovery is written to and read from the cache.

Its keys are `addresses`, `amqp_urls` (without password) and `time_out_in_minutes`, which older programs read, and one
entry per peer, ``peer:<address>`` -> ``{"seen_at": seconds since 1970, "by": node, "round_trip_s": TCP connect time}``.
A program that could not reach a peer may add ``suspect:<address>`` with any value: the peer is scouted again, and the
key is removed.

In a file that programs of the older `miros-rabbitmq` read (`is_old`), the first three have a form those can use:

* `addresses` contains only hosts without a port and no IPv6 address, because either makes them drop the whole list; the
  other peers have only their own entries.  `amqp_urls` corresponds to `addresses`.
* `addresses` includes the discovering host's own address if a broker answers there: without it, old programs on the
  same host cannot reach each other.
* A discovery that found no peer has the time-out 0, because an old program would wait forever while it is young, and
  the key ``nobody_found``, which makes this package's programs respect it for a minute all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from miros_cache_net import limits
from miros_cache_net.discovery.peers import redacted_url, split_peer
from miros_cache_net.document.layout import TIME_OUT_KEY
from miros_cache_net.payloads import AMQPConsumerCheckPayload, CacheReadPayload

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

#: The file that programs of the older package read, in their working directory.
OLD_FILE: Final = ".miros_rabbitmq_lan_cache.json"
#: The contents of a LAN cache file that was never written.
DEFAULT: Final[Mapping[str, Any]] = {"addresses": [], "amqp_urls": [], "time_out_in_minutes": 0}
#: How long a discovery that found no peer counts: short, because peers may be starting, but not zero, which would make
#: every host of a fleet discover in turn, forever.
NOBODY_FOUND_MINUTES: Final = 1.0
_NOBODY: Final = "nobody_found"
_PEER: Final = "peer:"
_SUSPECT: Final = "suspect:"
_LISTED: Final = frozenset((*DEFAULT, _NOBODY))


def is_old(path: str | os.PathLike[str]) -> bool:
    """Whether programs of the older package read the file at `path`, so that it must have their form."""
    return os.path.basename(path) == OLD_FILE


def render(
    found: Iterable[AMQPConsumerCheckPayload],
    settings: Settings,
    *,
    seen_at: float,
    time_out_in_minutes: float,
    own: str = "",
    old: bool = False,
) -> dict[str, Any]:
    """The document of a discovery that found these peers; it contains no password.

    own  this host's address if a broker answers there and it is to be listed, else ""
    old  whether to use the form for older programs
    """
    checks = list(found)
    addresses = [check.ip_address for check in checks]
    document: dict[str, Any] = {
        **_listed(settings, [own, *addresses] if own else addresses, old),
        TIME_OUT_KEY: time_out_in_minutes if checks else min(time_out_in_minutes, NOBODY_FOUND_MINUTES),
    }
    if old and not checks:
        document.update({TIME_OUT_KEY: 0, _NOBODY: True})
    for check in checks:
        document[_PEER + check.ip_address] = _entry(settings, check, seen_at)
    return document


def without(
    document: Mapping[str, Any], settings: Settings, address: str, *, old: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The keys to change and the keys to delete to remove the peer `address`."""
    addresses = [each for each in addresses_in(document) or () if each != address]
    return _listed(settings, addresses, old), [_PEER + address, *suspicion_of(document, address)]


def suspects_in(document: Mapping[str, Any]) -> list[str]:
    """The peers that a program has reported as unreachable."""
    if not any(key.startswith(_SUSPECT) for key in document):
        return []
    return [address for address in addresses_in(document) or () if _SUSPECT + address in document]


def suspicion_of(document: Mapping[str, Any], address: str) -> list[str]:
    """The suspect key to delete once `address` has been scouted; empty if it is not suspected."""
    return [_SUSPECT + address] if _SUSPECT + address in document else []


def with_peer(
    document: Mapping[str, Any],
    settings: Settings,
    check: AMQPConsumerCheckPayload,
    *,
    seen_at: float,
    old: bool = False,
) -> dict[str, Any]:
    """The keys to change to add the address of `check` as a peer."""
    addresses = list(dict.fromkeys([*(addresses_in(document) or ()), check.ip_address]))
    return {**_listed(settings, addresses, old), _PEER + check.ip_address: _entry(settings, check, seen_at)}


def addresses_in(document: Mapping[str, Any]) -> list[str] | None:
    """The peers of an untrusted document; None if it is not a LAN document or contains an invalid address."""
    listed = document.get("addresses")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or len(listed) > limits.LAN_PEERS:
        return None
    entries = (key.removeprefix(_PEER) for key in document if key.startswith(_PEER))
    try:
        addresses = list(dict.fromkeys((*listed, *entries)))
        for address in addresses:
            split_peer(address)
    except (ValueError, TypeError, AttributeError):
        return None
    return addresses if len(addresses) <= limits.LAN_PEERS else None


def is_foreign(key: str) -> bool:
    """Whether `key` is not a discovery's but another program's, which the next discovery keeps."""
    return key not in _LISTED and not key.startswith((_PEER, _SUSPECT))


def young_addresses_in(cache: CacheReadPayload) -> list[str] | None:
    """The peers of a young cache; None if it is expired or not a LAN document.

    The result of a discovery that found no peer counts as young for `NOBODY_FOUND_MINUTES`.
    """
    if cache.expired and not (found_nobody(cache.dict) and cache.age_s < NOBODY_FOUND_MINUTES * 60):
        return None
    return addresses_in(cache.dict)


def found_nobody(document: Mapping[str, Any]) -> bool:
    """Whether the discovery found no broker, except perhaps this host's own."""
    return _NOBODY in document


def _listed(settings: Settings, addresses: Iterable[str], old: bool) -> dict[str, Any]:
    listed = [address for address in dict.fromkeys(addresses) if not (old and ":" in address)]
    return {"addresses": listed, "amqp_urls": [redacted_url(settings, address) for address in listed]}


def _entry(settings: Settings, check: AMQPConsumerCheckPayload, seen_at: float) -> dict[str, Any]:
    return {"seen_at": seen_at, "by": settings.node_name, "round_trip_s": check.round_trip_s}
