"""The address that this machine goes out with."""

from __future__ import annotations

import ipaddress
import socket

from miros_cache_net.lan.interfaces import interface_addresses

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


def _any_address() -> str:
    try:
        own = [each.address for each in interface_addresses() if isinstance(each.address, ipaddress.IPv4Address)]
    except OSError:
        own = []
    return str(own[0]) if own else "127.0.0.1"
