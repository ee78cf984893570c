"""Other machines with a broker: their names, the login, and which of them may get the password."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from miros_cache_net.settings.broker_address import BrokerAddress, Secret
from miros_cache_net.settings.networks import LOOPBACK, Network, own_networks

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings

_PORTS: Final = range(1, 65536)


def trusted(address: str, networks: Iterable[Network] = LOOPBACK) -> bool:
    """Whether the numeric `address` is in one of `networks`, so that it may get the password without TLS.

    A name is never trusted, because the DNS server decides what it resolves to.  An IPv4-mapped IPv6 address
    (``::ffff:10.0.0.1``) is judged as the IPv4 address.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def trusted_networks(settings: Settings) -> tuple[Network, ...]:
    """The networks that the settings trust now: with ``auto``, including those of this machine."""
    return (*settings.trusted_networks, *own_networks()) if settings.trust_own_subnets else settings.trusted_networks


def split_peer(peer: str) -> tuple[str, int | None]:
    """Host and port of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address; port None: not given.

    Raises `ValueError` with a one-line message for anything else.
    """
    host, colon, port = peer.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = peer, ""
    elif not port.isascii() or not port.isdigit() or int(port[:6]) not in _PORTS:
        raise ValueError(f"{peer[:80]!r} has no port from 1 to 65535 behind its last colon")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or len(host) > 255 or not host.isprintable() or any(c in host for c in " []/@?#\\"):
        raise ValueError(f"{peer[:80]!r} is no host and no host:port")
    return host, int(port) if port else None


def peer_broker(settings: Settings, peer: str, port: int | None = None) -> BrokerAddress:
    """The broker at `peer`: as the settings define it, or else with the options of their first broker.

    A port in `peer` takes precedence over `port`; without either, the first broker's port.  Raises `ValueError` as
    `split_peer`, or for an invalid `port`.
    """
    host, own_port = split_peer(peer)
    wanted = own_port or port
    if wanted is not None and wanted not in _PORTS:
        raise ValueError(f"{wanted} is no port from 1 to 65535")
    for broker in settings.amqp_urls:
        if broker.host == host and wanted in (None, broker.port):
            return broker
    first = settings.amqp_urls[0]
    return replace(first, host=host, port=wanted or first.port)


def connection_url(settings: Settings, peer: str) -> str:
    """The URL with which a program dials `peer`; it contains the password only if that may be sent there.

    It may be sent to a broker named in the settings, over verified TLS, or to a numeric address in a trusted network.
    """
    broker = peer_broker(settings, peer)
    verified_tls = broker.tls and settings.tls_verify
    told = verified_tls or broker in settings.amqp_urls or trusted(broker.host, trusted_networks(settings))
    return _url(broker, broker.password if told else Secret())


def redacted_url(settings: Settings, peer: str) -> str:
    """The URL of `peer` without password, for a file or a message."""
    return _url(peer_broker(settings, peer), Secret())


def _url(broker: BrokerAddress, secret: Secret) -> str:
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    password = f":{quote(secret.reveal(), safe='')}" if secret else ""
    user = f"{quote(broker.user, safe='')}{password}@" if broker.user else ""
    return f"{'amqps' if broker.tls else 'amqp'}://{user}{host}:{broker.port}/{quote(broker.vhost, safe='')}"
