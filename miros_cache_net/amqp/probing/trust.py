"""Which addresses may be told the RabbitMQ password without TLS."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from miros_cache_net.setting_types import LOOPBACK, Network


def trusted(address: str, networks: Iterable[Network] = LOOPBACK) -> bool:
    """Whether `address`, the numeric one that was really dialled, lies in one of `networks`.

    A name is never trusted: what it resolves to is for whoever answers DNS to say.  An IPv4 address
    inside an IPv6 one (``::ffff:10.0.0.1``) is judged as the IPv4 address it is.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
