"""What the settings say of a peer, as a probe wants it."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.pika_parameters import tls_context
from miros_cache_net.discovery.peers import peer_broker, trusted_networks
from miros_cache_net.discovery.probe.verdict import Challenge, ProbeTarget

if TYPE_CHECKING:
    from miros_cache_net.settings import Settings


def target_for(
    settings: Settings, peer: str, exchange: str, port: int | None = None, challenge: Challenge | None = None
) -> ProbeTarget:
    """`peer` is ``host`` or ``host:port``; see `miros_cache_net.discovery.peers.peer_broker`.

    Raises `ValueError` where that or the exchange's name is malformed, `SettingsError` for authorities that
    cannot be read.
    """
    broker = peer_broker(settings, peer, port)
    return ProbeTarget(
        broker,
        exchange,
        timeout_s=settings.scout_timeout_s,
        networks=trusted_networks(settings),
        tls_context=_context(settings) if broker.tls else None,
        challenge=challenge,
    )


def _context(settings: Settings) -> ssl.SSLContext:
    ca_file = settings.tls_ca_file
    return _cached_context(ca_file, settings.tls_verify, _identity(ca_file))


@functools.lru_cache(maxsize=4)
def _cached_context(ca_file: Path | None, verify: bool, _identity: object) -> ssl.SSLContext:
    """Reading hundreds of certificates takes 20 ms, which a sweep of a thousand addresses must not pay each time."""
    return tls_context(LinkOptions(tls_ca_file=ca_file, tls_verify=verify))


def _identity(ca_file: Path | None) -> tuple[int, int] | None:
    """Another file under the same name is another context."""
    try:
        status = ca_file.stat() if ca_file is not None else None
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns) if status is not None else None
