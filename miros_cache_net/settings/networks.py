"""This machine's addresses and networks."""

from __future__ import annotations

import functools
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Only this machine can listen there.
LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
#: The destination whose route gives this machine's source address; no packet is sent there.
_FAR_AWAY: Final = ("10.255.255.255", 9)
#: How long `own_networks` caches its result: asking the kernel takes 0.2 ms, and a document has thousands of peers.
_REMEMBERED_S: Final = 1.0


@dataclass(frozen=True)
class InterfaceAddress:
    """One address of an interface that is up, and its network.  Link-local addresses keep their ``%eth0``."""

    interface: str
    address: Address
    network: Network

    @property
    def swept(self) -> bool:
        """Whether a sweep can try the addresses of its network."""
        return isinstance(self.network, ipaddress.IPv4Network) and self.network.prefixlen < 32


def interface_addresses() -> list[InterfaceAddress]:
    """Every address of the interfaces with a carrier, without loopback.  Raises `OSError`."""
    import psutil

    up = {name for name, status in psutil.net_if_stats().items() if status.isup}
    found = []
    for interface, addresses in psutil.net_if_addrs().items():
        for each in addresses if interface in up else ():
            own = _interface_address(interface, each.address, each.netmask)
            if own is not None and not own.address.is_loopback:
                found.append(own)
    return found


def own_addresses() -> frozenset[str]:
    """This machine's addresses as text, including loopback and interfaces without a carrier."""
    import psutil

    return frozenset(
        each.address for addresses in psutil.net_if_addrs().values() for each in addresses if _is_ip(each.address)
    )


def own_networks(interfaces: Callable[[], list[InterfaceAddress]] = interface_addresses) -> tuple[Network, ...]:
    """This machine's networks, at most a second old; () if the system does not report them."""
    return _networks_in_period(int(time.monotonic() / _REMEMBERED_S), interfaces)


def working_address(
    interfaces: Callable[[], list[InterfaceAddress]] = interface_addresses, far_away: tuple[str, int] = _FAR_AWAY
) -> str:
    """The source address of the route to other networks.

    Without such a route, the first IPv4 address of an interface that is up; without one, 127.0.0.1.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(far_away)
            return str(sock.getsockname()[0])
    except OSError:  # no such route, or no descriptor to spare
        return _any_address(interfaces)


def working_network(
    interfaces: Callable[[], list[InterfaceAddress]] = interface_addresses, here: Callable[[], str] = working_address
) -> Network | None:
    """The network to search first for other machines: the working address's, else the first that can be swept.

    On a machine without IPv4, the first IPv6 network that is not link-local; None if there is no network at all.
    """
    try:
        own = [each for each in interfaces() if not each.address.is_link_local]
    except OSError:
        return None
    address = here()
    own.sort(key=lambda each: (not each.swept, str(each.address) != address))
    return next((each.network for each in own if _is_subnet(each.network)), None)


@functools.lru_cache(maxsize=1)
def _networks_in_period(_period: int, interfaces: Callable[[], list[InterfaceAddress]]) -> tuple[Network, ...]:
    try:
        # A prefix of 0 is not a subnet but a tunnel to everywhere.
        return tuple(dict.fromkeys(each.network for each in interfaces() if each.network.prefixlen))
    except OSError:
        return ()


def _interface_address(interface: str, address: str, netmask: str | None) -> InterfaceAddress | None:
    """The parsed address; None if it is not an IP address (but a hardware address, say)."""
    try:
        parsed = ipaddress.ip_address(address)
        network = ipaddress.ip_network(f"{address.partition('%')[0]}/{_prefix(netmask, parsed)}", strict=False)
    except ValueError:
        return None
    return InterfaceAddress(interface, parsed, network)


def _prefix(netmask: str | None, address: Address) -> int:
    """The prefix length; without a netmask (a point-to-point link) that of the single address."""
    if not netmask:
        return address.max_prefixlen
    return int(ipaddress.ip_address(netmask)).bit_count()


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _is_subnet(network: Network) -> bool:
    # Neither the end of a tunnel nor a tunnel to everywhere.
    return 0 < network.prefixlen < network.max_prefixlen


def _any_address(interfaces: Callable[[], list[InterfaceAddress]]) -> str:
    try:
        own = [each.address for each in interfaces() if isinstance(each.address, ipaddress.IPv4Address)]
    except OSError:
        own = []
    return str(own[0]) if own else "127.0.0.1"
