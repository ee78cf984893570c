"""`chart.lan`: the addresses of the LAN's brokers, from the LAN document, without pinging them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from miros_cache_net.settings.networks import working_address


class ThisHost(NamedTuple):
    """address: this host's address on the LAN."""

    address: str


class OtherHosts(NamedTuple):
    """addresses: those of the other known hosts with a broker."""

    addresses: list[str]


class Lan:
    """Each property is computed anew on every access."""

    def __init__(self, others: Callable[[], list[str]]) -> None:
        self._others = others

    @property
    def this(self) -> ThisHost:
        return ThisHost(working_address())

    @property
    def other(self) -> OtherHosts:
        return OtherHosts([address for address in self._others() if address != working_address()])

    @property
    def addresses(self) -> list[str]:
        """The addresses of all hosts, this one first."""
        return [self.this.address, *self.other.addresses]

    @staticmethod
    def get_working_ip_address() -> str:
        return working_address()
