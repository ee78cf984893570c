"""Options of a link to RabbitMQ, apart from its addresses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LinkOptions:
    """The defaults fit a LAN and most WANs; each field names its trade-off.

    heartbeat_s        a silent peer is given up ~5 s after this; less detects loss sooner but sends more idle traffic
    connect_timeout_s  for TCP, TLS and the broker's greeting; login and declarations get twice as long.  After
                       rounds in which all brokers may have been too busy, all but TCP gets up to four times as long
    blocked_timeout_s  a broker that takes no publications for this long (memory or disk alarm) is left for the next
                       address; until then publications wait
    tls_ca_file        PEM file of authorities to trust in place of the system's
    tls_verify         False accepts any certificate: a man in the middle can read the password
    tls_certificate_file  PEM file of the client certificate, for brokers that require one
    tls_key_file       PEM file of its private key; None: in the certificate's file
    external_login     log in as the certificate's subject (EXTERNAL), without user and password
    canary_interval_s  how often the link sends itself a message through the exchange; an exchange deleted and
                       recreated under a consumer is noticed within this plus canary_timeout_s
    canary_timeout_s   how long that message may take
    flush_s            how long `stop` waits for publications already handed over
    """

    heartbeat_s: int = 10
    connect_timeout_s: float = 5.0
    blocked_timeout_s: float = 300.0
    tls_ca_file: Path | None = None
    tls_verify: bool = True
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    external_login: bool = False
    canary_interval_s: float = 30.0
    canary_timeout_s: float = 10.0
    flush_s: float = 1.0
