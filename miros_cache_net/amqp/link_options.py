"""How a link to RabbitMQ behaves, beyond where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LinkOptions:
    """Defaults fit a LAN and most of the world; each field says what a change trades.

    heartbeat_s        a silent peer is given up after this and ~5 s more; less notices sooner and costs idle messages
    connect_timeout_s  for TCP; login and declarations get twice that
    blocked_timeout_s  a broker that takes no publications for this long (memory or disk alarm) is left for the next
                       address; until then they wait
    tls_ca_file        PEM file of authorities to trust in place of the system's
    tls_verify         False accepts any certificate: whoever sits between can read the password
    canary_interval_s  how often the link sends itself a message through the exchange; an exchange deleted and made
                       again under a consumer is noticed within this and canary_timeout_s
    canary_timeout_s   how long that message may take
    flush_s            what `stop` gives publications handed over before it
    """

    heartbeat_s: int = 10
    connect_timeout_s: float = 5.0
    blocked_timeout_s: float = 300.0
    tls_ca_file: Path | None = None
    tls_verify: bool = True
    canary_interval_s: float = 30.0
    canary_timeout_s: float = 10.0
    flush_s: float = 1.0
