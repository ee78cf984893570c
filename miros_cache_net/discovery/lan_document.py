"""The LAN document: what a discovery writes into the cache, and what a reader takes from it.

Keys: `addresses`, `amqp_urls` (without password) and `time_out_in_minutes`, which older programs read; and for each
peer one entry of its own, ``peer:<address>`` -> ``{"seen_at": seconds since 1970, "by": node, "round_trip_s": TCP
connect time}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from miros_cache_net import limits
from miros_cache_net.discovery.peers import redacted_url, split_peer
from miros_cache_net.payloads import AMQPConsumerCheckPayload, CacheReadPayload

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

#: A LAN cache file that nobody has written yet.
DEFAULT: Final[Mapping[str, Any]] = {"addresses": [], "amqp_urls": [], "time_out_in_minutes": 0}
_PEER: Final = "peer:"


def render(
    found: Iterable[AMQPConsumerCheckPayload], settings: Settings, *, seen_at: float, time_out_in_minutes: float
) -> dict[str, Any]:
    """The document of a discovery that found these; it holds no password."""
    checks = list(found)
    document: dict[str, Any] = {
        **_listed(settings, [check.ip_address for check in checks]),
        "time_out_in_minutes": time_out_in_minutes,
    }
    for check in checks:
        document[_PEER + check.ip_address] = _entry(settings, check, seen_at)
    return document


def without(document: Mapping[str, Any], settings: Settings, address: str) -> tuple[dict[str, Any], list[str]]:
    """The keys to change and to delete, so that `address` is no peer any more."""
    addresses = [each for each in addresses_in(document) or () if each != address]
    return _listed(settings, addresses), [_PEER + address]


def with_peer(
    document: Mapping[str, Any], settings: Settings, check: AMQPConsumerCheckPayload, *, seen_at: float
) -> dict[str, Any]:
    """The keys to change, so that the address of `check` is a peer again."""
    addresses = list(dict.fromkeys([*(addresses_in(document) or ()), check.ip_address]))
    return {**_listed(settings, addresses), _PEER + check.ip_address: _entry(settings, check, seen_at)}


def addresses_in(document: Mapping[str, Any]) -> list[str] | None:
    """The peers of a LAN document, however it came here; None if it is none or names what is no address."""
    addresses = document.get("addresses")
    if not isinstance(addresses, Sequence) or isinstance(addresses, str) or len(addresses) > limits.LAN_PEERS:
        return None
    try:
        for address in addresses:
            split_peer(address)
    except (ValueError, TypeError, AttributeError):
        return None
    return list(addresses)


def young_addresses_in(cache: CacheReadPayload) -> list[str] | None:
    """The peers of a cache that is young; None if it is expired or no LAN document."""
    return None if cache.expired else addresses_in(cache.dict)


def _listed(settings: Settings, addresses: Sequence[str]) -> dict[str, Any]:
    return {
        "addresses": list(addresses),
        "amqp_urls": [redacted_url(settings, address) for address in addresses],
    }


def _entry(settings: Settings, check: AMQPConsumerCheckPayload, seen_at: float) -> dict[str, Any]:
    return {"seen_at": seen_at, "by": settings.node_name, "round_trip_s": check.round_trip_s}
