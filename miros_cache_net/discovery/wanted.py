"""Where a discovery looks: this machine's networks, the hosts that the settings name, the hosts of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from miros_cache_net.discovery.hosts_file import read_hosts
from miros_cache_net.discovery.peers import split_peer, trusted
from miros_cache_net.settings import Settings
from miros_cache_net.settings.networks import own_networks
from miros_cache_net.settings.parsing import AUTO


class Wanted(NamedTuple):
    """What a recce looks at.

    named   called at each recce; yields ``host`` or ``host:port``
    sweeps  whether to sweep this machine's networks too
    """

    named: Callable[[], Iterable[str]]
    sweeps: bool


def wanted_by(settings: Settings) -> Wanted:
    """From the settings `discover` and `hosts_file`; without either, the networks.  `named` raises as `read_hosts`."""
    return Wanted(
        lambda: named_by(settings), AUTO in settings.discover or not (settings.discover or settings.hosts_file)
    )


def is_configured(settings: Settings, peer: str) -> bool:
    """Whether `peer` may be dialled at the request of a message.

    It may if the settings name it, or if it is a numeric address in a trusted network or one of this machine's.
    """
    with suppress(ValueError, OSError):
        host, _port = split_peer(peer)
        named = {split_peer(each)[0] for each in named_by(settings)}
        named.update(broker.host for broker in settings.amqp_urls)
        return host in named or trusted(host, (*settings.trusted_networks, *own_networks()))
    return False


def named_by(settings: Settings) -> list[str]:
    """The hosts that the settings and their hosts file name.  Raises as `read_hosts`."""
    in_file = read_hosts(settings.hosts_file).hosts if settings.hosts_file else ()
    return [*(host for host in settings.discover if host != AUTO), *in_file]
