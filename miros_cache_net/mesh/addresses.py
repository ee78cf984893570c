"""Identifies brokers: this program's own, its address for others, and those that may get the password."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote

from miros_cache_net.discovery.peers import connection_url, peer_broker
from miros_cache_net.settings import Settings
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.settings.networks import own_addresses, working_address


def broker_of(settings: Settings, peer: str) -> BrokerAddress | None:
    """The broker at `peer` (``host`` or ``host:port``) with its login; None if the password may not be sent there.

    Raises `ValueError` if `peer` is malformed.
    """
    broker = BrokerAddress.parse(connection_url(settings, peer))
    has_login = broker.password or settings.external_login or not settings.amqp_urls[0].password
    return broker if has_login else None


def is_own(settings: Settings, peer: str) -> bool:
    """Whether `peer` is one of this program's own brokers.  Raises `ValueError` if `peer` is malformed."""
    broker = peer_broker(settings, peer)
    return any(
        broker.port == own.port and (broker.host == own.host or (_is_here(own.host) and _is_here(broker.host)))
        for own in settings.amqp_urls
    )


def sender_of(settings: Settings, dialled: str) -> str:
    """The IPv4 address under which old programs list the broker at the numeric address `dialled`.

    Never loopback, which means a different machine to each host, and permanently stops an old program from receiving.
    """
    if settings.mesh_sender:
        return settings.mesh_sender
    try:
        address = ipaddress.ip_address(dialled)
    except ValueError:
        return working_address()
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else address
    return working_address() if mapped is None or mapped.is_loopback else str(mapped)


def where_it_runs(dialled: str) -> str:
    """What tells brokers on one port apart: "" for this host, else the numeric address `dialled`, IPv4 if it can be."""
    if _is_here(dialled):
        return ""
    try:
        address = ipaddress.ip_address(dialled)
    except ValueError:
        return dialled
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return "" if mapped is not None and _is_here(str(mapped)) else str(mapped or address)


def starred_url(settings: Settings, peer: str) -> str:
    """The URL of `peer` for people, with asterisks for the password."""
    broker = peer_broker(settings, peer)
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    user = f"{quote(broker.user, safe='')}:***@" if broker.user else ""
    return f"{'amqps' if broker.tls else 'amqp'}://{user}{host}:{broker.port}/{quote(broker.vhost, safe='')}"


def own_address(settings: Settings) -> str:
    """The address at which others reach this program's own broker: this host's LAN address if the broker runs here."""
    own = settings.amqp_urls[0]
    return working_address() if _is_here(own.host) else own.host


def is_numeric(host: str) -> bool:
    """Whether `host` is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_here(host: str) -> bool:
    if host == "localhost" or host in own_addresses():
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
