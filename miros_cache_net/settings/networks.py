"""The addresses of this machine and the networks that it is in."""

from __future__ import annotations

import functools
import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Nobody but this machine can listen there.
LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
#: Where it is asked with which address this machine goes out; no packet is sent there.
_FAR_AWAY: Final = ("10.255.255.255", 9)
#: How long `own_networks` may answer from memory: asking the kernel takes 0.2 ms, a document has thousands of peers.
_REMEMBERED_S: Final = 1.0


@dataclass(frozen=True)
class InterfaceAddress:
    """One address of one interface that is up, and the network it is in.  Link-local ones keep their ``%eth0``."""

    interface: str
    address: Address
    network: Network

    @property
    def swept(self) -> bool:
        """Other machines can be looked for around it, one address after another."""
        return isinstance(self.network, ipaddress.IPv4Network) and self.network.prefixlen < 32


def interface_addresses() -> list[InterfaceAddress]:
    """Every address of the interfaces that have a carrier, without loopback.  Raises `OSError`."""
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
    """This machine's addresses as text, those of loopback and of interfaces without carrier too."""
    import psutil

    return frozenset(
        each.address for addresses in psutil.net_if_addrs().values() for each in addresses if _is_ip(each.address)
    )


def own_networks() -> tuple[Network, ...]:
    """The networks that this machine is in, at most a second old; () where the system does not say."""
    return _networks_in_period(int(time.monotonic() / _REMEMBERED_S))


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


@functools.lru_cache(maxsize=1)
def _networks_in_period(_period: int) -> tuple[Network, ...]:
    try:
        # a prefix of 0 is no subnet but a tunnel to everywhere
        return tuple(dict.fromkeys(each.network for each in interface_addresses() if each.network.prefixlen))
    except OSError:
        return ()


def _interface_address(interface: str, address: str, netmask: str | None) -> InterfaceAddress | None:
    """None for what is no IP address (a hardware address, say)."""
    try:
        parsed = ipaddress.ip_address(address)
        network = ipaddress.ip_network(f"{address.partition('%')[0]}/{_prefix(netmask, parsed)}", strict=False)
    except ValueError:
        return None
    return InterfaceAddress(interface, parsed, network)


def _prefix(netmask: str | None, address: Address) -> int:
    """Without a netmask (a point-to-point link) the address stands for itself alone."""
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
    # not the end of a tunnel, nor one to everywhere
    return 0 < network.prefixlen < network.max_prefixlen


def _any_address() -> str:
    try:
        own = [each.address for each in interface_addresses() if isinstance(each.address, ipaddress.IPv4Address)]
    except OSError:
        own = []
    return str(own[0]) if own else "127.0.0.1"
