"""The addresses of this machine and the networks that it is in.  Layer 0: imports nothing of ours."""

from __future__ import annotations

import functools
import ipaddress
import time
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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
