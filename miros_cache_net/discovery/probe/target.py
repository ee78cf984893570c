"""Makes a probe's target from a peer and the settings."""

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
    """The target for `peer`, ``host`` or ``host:port``; see `miros_cache_net.discovery.peers.peer_broker`.

    Raises `ValueError` if the peer or the exchange's name is malformed, `SettingsError` if the TLS files cannot be
    read.
    """
    broker = peer_broker(settings, peer, port)
    return ProbeTarget(
        broker,
        exchange,
        timeout_s=settings.scout_timeout_s,
        networks=trusted_networks(settings),
        tls_context=_context(settings) if broker.tls else None,
        challenge=challenge,
        external_login=settings.external_login,
    )


def _context(settings: Settings) -> ssl.SSLContext:
    options = LinkOptions(
        tls_ca_file=settings.tls_ca_file,
        tls_verify=settings.tls_verify,
        tls_certificate_file=settings.tls_certificate_file,
        tls_key_file=settings.tls_key_file,
    )
    files = (options.tls_ca_file, options.tls_certificate_file, options.tls_key_file)
    return _cached_context(options, tuple(map(_identity, files)))


@functools.lru_cache(maxsize=4)
def _cached_context(options: LinkOptions, _identities: object) -> ssl.SSLContext:
    """Cached, because reading hundreds of certificates takes 20 ms, too long for each address of a large sweep."""
    return tls_context(options)


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Distinguishes files that replace each other under one name; each needs its own context."""
    try:
        status = file.stat() if file is not None else None
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns) if status is not None else None
