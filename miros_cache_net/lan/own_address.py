"""The address that this machine goes out with, and the network around it.  Layer 0."""

from __future__ import annotations

import ipaddress
import socket

from miros_cache_net.lan.interfaces import Network, interface_addresses

#: Where the question is asked; no packet is sent there.
_FAR_AWAY = ("10.255.255.255", 9)


def working_address() -> str:
    """The source address of the route to other networks.

    Where there is no such route, the first IPv4 address of an interface that is up; 127.0.0.1 where there is none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(_FAR_AWAY)
        except OSError:
            return _any_address()
        return str(sock.getsockname()[0])


def working_network() -> Network | None:
    """The network that other machines are looked for in first: that of the working address, else the first swept one.

    On a machine without IPv4, the first IPv6 network that is not link-local; None where there is no network at all.
    """
    try:
        own = [each for each in interface_addresses() if not each.address.is_link_local]
    except OSError:
        return None
    here = working_address()
    own.sort(key=lambda each: (not each.swept, str(each.address) != here))
    return next((each.network for each in own if _is_subnet(each.network)), None)


def _is_subnet(network: Network) -> bool:
    # not the end of a tunnel, nor one to everywhere
    return 0 < network.prefixlen < network.max_prefixlen


def _any_address() -> str:
    try:
        own = [each.address for each in interface_addresses() if isinstance(each.address, ipaddress.IPv4Address)]
    except OSError:
        own = []
    return str(own[0]) if own else "127.0.0.1"
